"""Calibration per domain on rows left out: one map for all, one for each domain, each drawn to the common one.

The answers are those kept in `benchmarks/data`: the mean of SmolLM2's phrasings with half of its liking for labels
taken out, nothing else known. Domains are what somebody knows about a text before anybody labels it:

- "opening word" of TREC questions ("what", "who", ...: many domains, most of them rare, which differ much)
- "contents" of short messages and tweets: which of a link, a mention with @ and a digit are in it
- "length": quarters of each collection by number of characters, which differ little in some collections
- "by lot": ten domains that do not differ at all, where every difference that is fitted is noise

From each collection rows are drawn to be fitted on (the budget), all others are left out; many draws, by seed.
`pooled` is vector scaling of all rows, `separate` vector scaling of each domain's rows alone (the pooled one where
a domain has none), `shrunk` is `calibration.fit_by_domain`: mean log loss in nats on the rows left out, over all
cases of a budget. `gain` is pooled minus shrunk with its standard error over the draws, and `few` the same on rows
of domains with one to three fitted rows. `worst` is the case where shrunk is furthest behind pooled: by `behind`
nats, with `error` its standard error; `beyond_noise` counts cases that are behind by more than 0.005 nats and by
more than three standard errors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

import benchmarks
from benchmarks._answers import Answers, answers
from calibration import correct_label_bias
from calibration.logprobs import LOG_FLOOR
from calibration.shrinkage import fit_by_domain
from calibration.vector import fit_vector

COLLECTIONS = ("trec_questions", "sms_spam", "hutto_tweets", "bbc_news")
BUDGETS_QUICK, BUDGETS = (50, 300), (20, 50, 100, 300, 600)
DRAWS_QUICK, DRAWS = 3, 20
FEW_ROWS = 3
LOT = 10
NOTICEABLE, ERRORS = 0.005, 3.0

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.str_]


def run(quick: bool, data: Path | None) -> dict[str, object]:
    """Log loss by budget of rows, and in `cases` by collection and kind of domain."""
    draws = DRAWS_QUICK if quick else DRAWS
    cases: dict[str, dict[str, dict[str, float]]] = {}
    by_budget: dict[int, list[dict[str, float]]] = {}
    for collection in COLLECTIONS:
        kept = answers("smollm2", collection)
        base = correct_label_bias(kept.mean)
        for kind, domains in _domains(kept, data).items():
            name = f"{collection}, {kind}"
            cases[name] = {}
            for budget in BUDGETS_QUICK if quick else BUDGETS:
                found = _case(base, kept.gold, domains, budget, draws)
                cases[name][str(budget)] = found
                by_budget.setdefault(budget, []).append(found)
            print(name, len(np.unique(domains)), "domains", cases[name], flush=True)
    budgets = {str(budget): _together(found) for budget, found in by_budget.items()}
    _table(budgets)
    every = [(name, budget, one) for name, found in cases.items() for budget, one in found.items()]
    last = max(every, key=lambda one: one[2]["shrunk"] - one[2]["pooled"])
    total = _together([one for _, _, one in every])
    return {
        "benchmark": "shrink",
        "draws": draws,
        **{key: total[key] for key in ("pooled", "separate", "shrunk")},
        "worst": {"case": last[0], "rows": int(last[1]), "behind": -last[2]["gain"], "error": last[2]["error"]},
        "beyond_noise": sum(-one["gain"] > max(NOTICEABLE, ERRORS * one["error"]) for _, _, one in every),
        "compared": len(every),
        "budgets": budgets,
        "cases": cases,
    }


def _domains(kept: Answers, data: Path | None) -> dict[str, Words]:
    """The domain of each row, by kind of domain."""
    table = pq.read_table(benchmarks.need(data, kept.about.file), columns=[kept.about.text])
    texts = [str(text) for text in table.column(0).take(kept.rows).to_pylist()]
    lengths = np.array([len(text) for text in texts])
    quarter = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths)
    found = {
        "length": np.array(["shortest", "short", "long", "longest"])[quarter],
        "by lot": np.random.default_rng(0).integers(0, LOT, len(texts)).astype(np.str_),
    }
    if kept.collection == "trec_questions":
        found["opening word"] = np.array([text.split()[0].lower() for text in texts])
    elif kept.collection != "bbc_news":
        found["contents"] = np.array([_contents(text) for text in texts])
    return found


def _contents(text: str) -> str:
    signs = {
        "link": "http" in text or "www." in text,
        "mention": "@" in text,
        "digit": any(sign.isdigit() for sign in text),
    }
    return " ".join(name for name, there in signs.items() if there) or "plain"


def _case(base: Floats, gold: npt.NDArray[np.int64], domains: Words, budget: int, draws: int) -> dict[str, float]:
    """Means over the draws, and the error of the mean gain; `few` where there are such rows."""
    losses, few = [], []
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(gold))
        fitted, left = order[:budget], order[budget:]
        shrunk = fit_by_domain(base[fitted], gold[fitted], domains[fitted].tolist())
        said = {
            "pooled": shrunk.pooled.apply(base[left]),
            "separate": _separate(base, gold, domains, fitted, left),
            "shrunk": shrunk.apply(base[left], domains[left].tolist()),
        }
        each = np.stack([_losses(one, gold[left]) for one in said.values()])
        losses.append(each.mean(axis=1))
        thin = np.array([1 <= shrunk.rows.get(name, 0) <= FEW_ROWS for name in domains[left].tolist()])
        if thin.any():
            few.append(float((each[0] - each[2])[thin].mean()))
    pooled, separate, mine = np.array(losses).T
    found = {"pooled": pooled.mean(), "separate": separate.mean(), "shrunk": mine.mean()}
    found |= {"gain": (pooled - mine).mean(), "error": _error(pooled - mine)}
    if len(few) > 1:
        found |= {"few": np.mean(few), "few_error": _error(np.array(few))}
    return {key: round(float(value), 4) for key, value in found.items()}


def _separate(
    base: Floats,
    gold: npt.NDArray[np.int64],
    domains: Words,
    fitted: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
) -> Floats:
    """What maps fitted on each domain's rows alone say of the rows left out."""
    said = fit_vector(base[fitted], gold[fitted]).apply(base[left])
    for name in np.unique(domains[fitted]):
        own, asked = fitted[domains[fitted] == name], domains[left] == name
        said[asked] = fit_vector(base[own], gold[own]).apply(base[left[asked]])
    return said


def _losses(logprobs: Floats, gold: npt.NDArray[np.int64]) -> Floats:
    losses: Floats = -np.maximum(logprobs[np.arange(len(gold)), gold], LOG_FLOOR)
    return losses


def _error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _together(found: list[dict[str, float]]) -> dict[str, float]:
    keys = ("pooled", "separate", "shrunk", "gain")
    mean = {key: round(float(np.mean([one[key] for one in found])), 4) for key in keys}
    return mean | {"error": round(float(np.sqrt(np.sum([one["error"] ** 2 for one in found]))) / len(found), 4)}


def _table(budgets: dict[str, dict[str, float]]) -> None:
    print("\n| rows fitted | pooled | separate | shrunk | gain on pooled |\n|---|---|---|---|---|")
    for budget, found in budgets.items():
        cells = " | ".join(f"{found[key]:.3f}" for key in ("pooled", "separate", "shrunk"))
        print(f"| {budget} | {cells} | {found['gain']:.3f} ± {found['error']:.3f} |")
    print(flush=True)
