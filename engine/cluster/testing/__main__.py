"""The command line: `python -m engine.cluster.testing --seeds 2000`."""

from __future__ import annotations

import argparse
import sys

from engine.cluster.testing.mutants import MUTANTS
from engine.cluster.testing.profiles import KINDS
from engine.cluster.testing.seeds import one, run, told


def main() -> int:
    """Run histories; the exit status is 1 if any of them failed."""
    asked = argparse.ArgumentParser(prog="python -m engine.cluster.testing", description=__doc__)
    asked.add_argument("--seeds", type=int, default=2000, help="how many histories")
    asked.add_argument("--start", type=int, default=0, help="the first seed")
    asked.add_argument("--kind", default="", choices=["", *KINDS], help="one kind of history only")
    asked.add_argument("--mutant", default="", choices=["", *MUTANTS], help="a known mistake to put in")
    asked.add_argument("--processes", type=int, default=0, help="as many as there are cores, if not given")
    asked.add_argument("--story", type=int, default=0, help="tell so many last events of each history")
    asked.add_argument("--told", type=int, default=3, help="failed histories to tell in full")
    words = asked.parse_args()
    say = sys.stdout.write
    if words.story:
        laws = MUTANTS[words.mutant].laws if words.mutant else None
        for seed in range(words.start, words.start + words.seeds):
            outcome = one(seed, words.kind, laws, words.story)
            say("\n".join([*outcome.story, f"seed {seed}: {list(outcome.violations) or 'all is well'}", ""]))
        return 0
    summary, failed = run(words.start, words.seeds, words.kind, words.mutant, words.processes)
    for outcome in failed[: words.told]:
        say(told(outcome, words.kind, words.mutant) + "\n\n")
    for outcome in failed:
        say(f"seed {outcome.seed} failed: {outcome.violations[0]}\n")
    say(summary.line() + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
