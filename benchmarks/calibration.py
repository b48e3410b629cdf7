"""Every estimator and every calibrator of `calibration` against a reference: the same numbers, and how fast.

References are scikit-learn and scipy where they have the thing, the formula of the paper written out anew where
they have not; relplot, netcal, betacal, statsmodels, krippendorff and crowd-kit join in where they are installed
(none of them is needed by Winnow). `max_abs_diff` is the largest difference anywhere, in the unit of the number
or in probability, over all cases where both sides define the same thing; cases that only come near to it are
listed in `approximate` and do not count. `time_ratio` is the reference's time over ours on 1,000,000 rows of 5
labels, its median over the cases that do the same; above 1 ours is faster. `temperature_fit_s`: seconds of one
core to fit a temperature to 1,000,000 x 5. `table_100k_s`: seconds of one core for `evaluate`, every number with
its bootstrap interval, on 100,000 x 5.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks._calibration_peers import Case, estimators, fits, optional, people, rows
from calibration import evaluate, fit_temperature

ROWS, ROWS_QUICK = 1_000_000, 100_000
UNITS = 2_000  # labeled by several people
ROUNDS, ROUNDS_QUICK = 3, 1


def run(quick: bool) -> dict[str, object]:
    """Measure. `--quick` compares and times on 100,000 rows; the fit of the temperature is always the full one."""
    count, rounds = (ROWS_QUICK, ROUNDS_QUICK) if quick else (ROWS, ROUNDS)
    with threadpool_limits(1):
        found, missing = optional()
        for name in missing:
            print(f"{name} is not installed: skipped")
        made = rows(count)
        cases = [*estimators(made, found), *fits(made, found), *people(UNITS, found)]
        details = {case.name: _compare(case, rounds) for case in cases}
        large = rows(ROWS)
        fit_s = min(_seconds(lambda: fit_temperature(large.many, large.truth))[1] for _ in range(rounds))
        table_s = min(
            _seconds(lambda: evaluate(large.many[:100_000], large.truth[:100_000]))[1] for _ in range(rounds)
        )
    same = [details[case.name] for case in cases if case.same]
    return {
        "benchmark": "calibration",
        "max_abs_diff": float(np.max([detail["diff"] for detail in same])),
        "time_ratio": round(statistics.median(detail["ratio"] for detail in same), 2),
        "temperature_fit_s": round(fit_s, 3),
        "table_100k_s": round(table_s, 3),
        "rows": count,
        "cases": len(same),
        "details": {case.name: {"by": case.by, **details[case.name]} for case in cases if case.same},
        "approximate": {case.name: {"by": case.by, **details[case.name]} for case in cases if not case.same},
        "missing": missing,
    }


def _compare(case: Case, rounds: int) -> dict[str, float]:
    """The largest difference, the best seconds of both sides in turns, and their ratio."""
    mine, theirs = [], []
    for _ in range(rounds):
        our_numbers, seconds = _seconds(case.ours)
        mine.append(seconds)
        their_numbers, seconds = _seconds(case.theirs)
        theirs.append(seconds)
    diff = float(np.max(np.abs(np.asarray(our_numbers) - np.asarray(their_numbers))))
    ratio = min(theirs) / min(mine)
    print(
        f"{case.name:32} {case.by:13} differs by {diff:.1e}, {ratio:7.2f} times our {min(mine):.4f} s", flush=True
    )
    return {
        "diff": diff,
        "ratio": round(ratio, 3),
        "ours_s": round(min(mine), 5),
        "theirs_s": round(min(theirs), 5),
    }


def _seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """What came out, and the seconds of the processor it took: other work on the machine does not change them."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started
