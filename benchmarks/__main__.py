"""`python -m benchmarks NAME [--quick] [--data DIR] [--qwen FILE]`: the last line printed is one JSON object.

A benchmark is a module of this folder with `def run(quick: bool) -> dict[str, object]`; one that needs data has a
parameter `data: Path | None` too, and one that can also be run on a larger model `qwen: Path | None`. It may print
what it is doing; it raises `benchmarks.MissingData` when it needs files it cannot find.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path

import benchmarks
from workspace.errors import WinnowError


def names() -> list[str]:
    """The benchmarks there are, by the names of their modules."""
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))


def main(arguments: list[str] | None = None) -> int:
    """Run the named benchmark; returns 0 when it finished, 1 when it could not run, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Winnow against its peers.")
    parser.add_argument("name", nargs="?", help="which benchmark; none lists them")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a minute or two")
    parser.add_argument("--data", type=Path, default=None, help="folder with data sets a benchmark asks for")
    parser.add_argument("--qwen", type=Path, default=None, help="GGUF file of a larger model to measure as well")
    chosen = parser.parse_args(arguments)
    if chosen.name is None:
        print("Benchmarks:", *names(), sep="\n  ")
        return 0
    if chosen.name not in names():
        print(f"There is no benchmark named {chosen.name}. There are: {', '.join(names())}.", file=sys.stderr)
        return 2
    if chosen.data is not None and not chosen.data.is_dir():
        print(f"The data folder {chosen.data} does not exist.", file=sys.stderr)
        return 1
    if chosen.qwen is not None and not chosen.qwen.is_file():
        print(f"The model file {chosen.qwen} does not exist.", file=sys.stderr)
        return 1
    module = importlib.import_module(f"benchmarks.{chosen.name}")
    run = getattr(module, "run", None)
    if run is None:
        print(f"benchmarks/{chosen.name}.py has no `run`, so it is no benchmark.", file=sys.stderr)
        return 2
    asked = inspect.signature(run).parameters
    if chosen.qwen is not None and "qwen" not in asked:
        print(f"{chosen.name} measures no models: --qwen is of no use to it.", file=sys.stderr)
        return 2
    try:
        result = run(**{name: getattr(chosen, name) for name in asked})
    except (benchmarks.MissingData, WinnowError) as error:
        print(str(error), file=sys.stderr)
        return 1
    sys.stderr.flush()
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
