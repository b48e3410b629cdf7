"""Rows asked once more: by another model, with the labels in another order, several times over, or for a reason.

Each is an ordinary run over chosen rows, linked to the one it is about. Both answers are kept; which one counts is
said by the link (see `workspace.links`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from engine.prompt import Prompt, prompt_for, prompt_of
from studio.runtime import Studio, spec_of
from workspace import labels, links, rules, runs, tasks, votes
from workspace.errors import RunError
from workspace.facts import DimensionSpec, RunSpec
from workspace.store import Store
from workspace.task import Task

Order = Literal["task", "reversed"]


class Another(msgspec.Struct, frozen=True):
    """How rows are asked once more. What is left as it is stays as in the run they come from."""

    model: str = ""  # as `catalog.resolve` takes it; "" for the same one
    order: Order = "task"  # of the labels in the prompt
    samples: int = 1  # more than one: for models that give no probabilities
    temperature: float = 0.7  # of several samples
    explain: bool = False  # ask for the reason


class Again(msgspec.Struct, frozen=True):
    """What a program asks for: which rows of a run, and how they are asked again."""

    another: Another
    kind: links.Kind = "arbitrate"
    below: float = 0.6  # confidence
    dimension: str | None = None
    flagged: bool = False  # rows that break a rule, too
    rows: tuple[str, ...] = ()  # these, whatever their confidence


def again(studio: Studio, run_id: str, wish: Again) -> str:
    """As `ask_again`, for the rows the wish describes; a vote is about all rows."""
    if wish.kind == "vote":
        return vote(studio, run_id, [wish.another.model])[0]
    chosen = wish.rows or doubtful(studio.store, run_id, wish.dimension, wish.below, flagged=wish.flagged)
    return ask_again(studio, run_id, chosen, wish.another, wish.kind)


def doubtful(
    store: Store, run_id: str, dimension: str | None, below: float, *, flagged: bool = False
) -> list[str]:
    """Rows of a run nobody decided whose confidence, in this dimension or in any, is below that; with `flagged`
    those that break a rule of the task, too."""
    chosen = set(labels.below(store, run_id, dimension, below))
    return sorted(chosen.union(rules.flagged(store, run_id) if flagged else ()))


def ask_again(
    studio: Studio, run_id: str, row_ids: Sequence[str], another: Another, kind: links.Kind, weight: float = 1.0
) -> str:
    """Ask these rows of a run once more and link what is said to it; returns the id of the other run.

    Asked for the same thing again, the rows join the other run. Raises RunError when there are no rows, or when
    nothing would be different.
    """
    if not row_ids:
        raise RunError("There is no such row.", "Nothing was started.")
    first = runs.spec(studio.store, run_id)
    spec, prompt = _other(studio, first, another)
    if spec.run_id == run_id:
        raise RunError(
            "That would ask the same model the same question again.",
            "Choose another model, another order of the labels or several samples.",
        )
    studio.plan_run(spec, prompt, lambda store: runs.plan_rows(store, spec.run_id, row_ids))
    links.add(studio.store, run_id, spec.run_id, kind, weight)
    return spec.run_id


def vote(studio: Studio, run_id: str, models: Sequence[str]) -> list[str]:
    """Let these models label all rows of a run too, each with a voice in what counts; returns their runs' ids.

    Every voice has the same weight until people or gold labels tell the models apart; see `weigh`.
    """
    rows = runs.row_ids(studio.store, run_id)
    voices = [ask_again(studio, run_id, rows, Another(model), "vote") for model in models]
    weigh(studio, run_id)
    return voices


def weigh(studio: Studio, run_id: str) -> Mapping[str, float]:
    """Give the voices of a vote the weights they have earned by now; returns them by run, summing to one."""
    voices = [link.other_id for link in links.of(studio.store, run_id) if link.kind == "vote"]
    earned = votes.weights(studio.store, [run_id, *voices])
    shares = {fit.run_id: fit.weight for fit in earned}
    for voice in voices:
        links.add(studio.store, run_id, voice, "vote", shares[voice] / max(shares[run_id], 1e-9))
    return shares


def _other(studio: Studio, first: RunSpec, another: Another) -> tuple[RunSpec, Prompt]:
    from engine.models import catalog

    task = tasks.get(studio.store, first.task_id).task
    model = catalog.resolve(another.model) if another.model else first.model
    dimensions = first.dimensions
    if another.order != "task":
        dimensions = prompt_for(task, instructions=_own_words(task, first), order=another.order).dimensions
    if another.explain:
        dimensions = tuple(msgspec.structs.replace(asked, explain=True) for asked in dimensions)
    prompt = prompt_of(dimensions, first.preparation, first.rules)
    settings = first.settings
    if another.samples > 1:
        settings = msgspec.structs.replace(settings, samples=another.samples, temperature=another.temperature)
    return spec_of(first.task_id, first.task_name, prompt, model, settings), prompt


def _own_words(task: Task, first: RunSpec) -> dict[str, str]:
    """The instructions a person wrote for this run."""
    usual: dict[str, DimensionSpec] = {asked.name: asked for asked in prompt_for(task).dimensions}
    return {asked.name: asked.system for asked in first.dimensions if asked.system != usual[asked.name].system}
