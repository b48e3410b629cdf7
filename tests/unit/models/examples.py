"""Tasks and runs that several tests of models ask about."""

from __future__ import annotations

from engine.prompt import prompt_for
from workspace.facts import ModelSpec, RunSpec, Settings
from workspace.task import Dimension, Label, Task

TOPIC = Dimension(
    name="topic",
    question="What is the text about?",
    labels=(
        Label(name="sport", description="games, teams, players and results"),
        Label(name="money", description="prices, banks, taxes and companies"),
        Label(name="weather", description="rain, sun, wind and temperature"),
    ),
)
URGENT = Dimension(
    name="urgent",
    kind="boolean",
    question="Does somebody have to act at once?",
    labels=(
        Label(name="yes", description="an emergency, hurry, immediately, danger"),
        Label(name="no", description="a calm remark, whenever there is time"),
    ),
)
MENTIONS = Dimension(
    name="mentions",
    kind="multi",
    question="What does it mention?",
    labels=(Label(name="animals"), Label(name="food"), Label(name="cars"), Label(name="music")),
)
ROWS = (
    "The team won the football match and the players cheered",
    "The bank raised the interest rate and taxes on companies",
    "Heavy rain and strong wind, the temperature fell",
    "The goalkeeper of the team saved the last game",
    "",
)


def task_of(*dimensions: Dimension) -> Task:
    """A task of these dimensions, by default all three."""
    return Task(name="examples", dimensions=dimensions or (TOPIC, URGENT, MENTIONS))


def run_of(task: Task, model: ModelSpec, settings: Settings | None = None) -> RunSpec:
    """A run of the task with a model, not planned anywhere."""
    prompt = prompt_for(task)
    return RunSpec(
        run_id="run",
        task_id="task",
        task_name=task.name,
        prompt_id=prompt.id,
        model=model,
        dimensions=prompt.dimensions,
        preparation=prompt.preparation,
        rules=prompt.rules,
        settings=settings or Settings(),
    )
