"""What a run will take, told before it is started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models import speeds
from engine.prompt import prompt_for
from studio.estimates import Estimate, Interval, estimate
from tests.seeding import MODEL, SENTIMENT, add_rows, facts_for, ingest, spec_of, task_of
from workspace import pace, runs
from workspace.facts import Fact, ModelSpec, RunSpec, Settings
from workspace.store import Store, open_store
from workspace.task import Task, TextSteps

SERVER = ModelSpec("openai", "here/model", "http://localhost:1", "5e" * 16)
LIKENESS = ModelSpec("embedding", "likeness", "", "e0" * 16)
TASK = task_of(SENTIMENT)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    opened = open_store(tmp_path / "workspace.duckdb")
    yield opened
    opened.close()


def worked(store: Store, texts: list[str], per_row: list[float], **changes: object) -> RunSpec:
    """A run whose rows took so long, each handed out alone, a minute after each other."""
    ids = add_rows(store, texts)
    spec = spec_of(store, TASK)
    runs.plan(store, spec.run_id, limit=None)
    facts: list[Fact] = [
        msgspec.structs.replace(
            fact, claim=f"claim{place}", seconds=per_row[place], made_at=1.7e9 + 60 * place, **changes
        )
        for place, fact in enumerate(facts_for(spec, ids))
    ]
    ingest(store, facts)
    return spec


def near(found: Interval | None, low: float, high: float) -> None:
    assert found is not None
    assert found[0] == pytest.approx(low)
    assert found[1] == pytest.approx(high)


def low_high(*intervals: Interval | None) -> None:
    for interval in intervals:
        if interval is not None:
            assert 0 <= interval[0] <= interval[1]


def test_what_this_task_took_before_is_what_it_will_take(store: Store) -> None:
    worked(store, [f"text {n}" for n in range(20)], [0.1 + n / 100 for n in range(20)])
    found = estimate(store, TASK, MODEL, 1000, Settings())
    near(found.tokens, 20_000, 20_000)
    near(found.seconds, 120, 270)  # without the quickest and slowest tenth
    assert found.money is None
    assert "this task" in found.basis


def test_a_server_that_works_on_many_at_once_is_as_fast_as_it_proved(store: Store) -> None:
    # Ten seconds for each answer, but a claim ended every 60 s / 120 = half a second: at once, not in turn.
    ids = add_rows(store, [f"text {n}" for n in range(10)])
    spec = spec_of(store, TASK)
    facts = [
        msgspec.structs.replace(fact, claim=f"c{n}", seconds=10.0, made_at=1.7e9 + n / 2)
        for n, fact in enumerate(facts_for(spec, ids))
    ]
    ingest(store, facts)
    found = estimate(store, TASK, MODEL, 100, Settings())
    assert found.seconds is not None
    assert found.seconds[0] == pytest.approx(50, rel=1e-3)


def test_what_the_cache_or_a_rule_answered_says_nothing_about_the_pace(store: Store) -> None:
    worked(store, ["a text"], [0.0], warnings=("cached",))
    assert pace.claims(store, MODEL.digest) == []
    assert estimate(store, TASK, MODEL, 10, Settings()).seconds is None


def test_another_task_tells_the_pace_and_lengths_tell_the_tokens(store: Store) -> None:
    worked(store, ["some text " * 10] * 1 + [f"other text {n} " * 7 for n in range(9)], [0.2] * 10)
    found = estimate(store, task_of(SENTIMENT, "mood"), MODEL, 100, Settings())
    assert "other tasks" in found.basis
    low_high(found.tokens, found.seconds)
    system = len(prompt_for(task_of(SENTIMENT, "mood")).dimensions[0].system)
    assert found.tokens[0] / 100 < (110 + system) / 4 < found.tokens[1] / 100
    # As measured: 0.2 s an answer, 0.01 s a token.
    near(found.seconds, min(20.0, found.tokens[0] * 0.01), max(20.0, found.tokens[1] * 0.01))


def test_many_dimensions_take_at_least_as_long_as_one(store: Store) -> None:
    add_rows(store, [f"a text that is number {n}" for n in range(50)])
    speeds.remember(MODEL.digest, speeds.Speed(5, 1.0, 500, 1.0, 0.5, "llama.cpp", ("logits",), 0.0))
    one = TASK.dimensions[0]
    nine = TASK.model_copy(
        update={"dimensions": tuple(one.model_copy(update={"name": f"d{n}"}) for n in range(9))}
    )
    less, more = (estimate(store, task, MODEL, 100, Settings()) for task in (TASK, nine))
    assert less.seconds is not None
    assert more.seconds is not None
    assert less.seconds[0] <= more.seconds[0]
    assert less.seconds[1] <= more.seconds[1]


def test_a_tested_model_has_a_pace_before_its_first_run_and_an_unknown_one_none(store: Store) -> None:
    add_rows(store, [f"a text that is number {n}" for n in range(50)])
    assert estimate(store, TASK, MODEL, 100, Settings()).seconds is None
    speeds.remember(MODEL.digest, speeds.Speed(5, 1.0, 100, 1.0, 0.5, "llama.cpp", ("logits",), 0.0))
    found = estimate(store, TASK, MODEL, 100, Settings())
    low_high(found.seconds)
    assert found.seconds is not None
    assert found.seconds[0] < 100 / 5 < found.seconds[1]
    assert "test" in found.basis
    speeds.remember(LIKENESS.digest, speeds.Speed(5, 0.001, 0, 1.0, 0.1, "wordllama", ("logprobs",), 0.0))
    likeness = estimate(store, TASK, LIKENESS, 100, Settings())
    near(likeness.tokens, 0, 0)
    near(likeness.seconds, 0.008, 0.04)


def test_money_is_told_where_there_are_prices(store: Store) -> None:
    add_rows(store, ["a text of some length " * 4] * 1)
    priced = Settings(price_in=2.0, price_out=10.0)
    assert estimate(store, TASK, SERVER, 1000, Settings()).money is None
    found = estimate(store, TASK, SERVER, 1000, priced)
    low_high(found.money, found.tokens)
    assert found.money is not None
    assert found.tokens[0] * 2e-6 < found.money[0] < found.money[1] < found.tokens[1] * 10e-6
    drawn = estimate(store, TASK, SERVER, 1000, msgspec.structs.replace(priced, samples=3))
    near(drawn.money, 3 * found.money[0], 3 * found.money[1])


def test_compression_bounds_what_a_long_text_costs(store: Store) -> None:
    add_rows(store, ["a very long text " * 4000])
    short = TASK.model_copy(update={"text": TextSteps(max_tokens=100)})
    assert estimate(store, short, MODEL, 10, Settings()).tokens[1] < 10 * 500
    assert estimate(store, TASK, MODEL, 10, Settings()).tokens[0] > 10 * 10_000


def test_nothing_costs_nothing(store: Store) -> None:
    found = estimate(store, TASK, SERVER, 0, Settings(price_in=1.0))
    near(found.tokens, 0, 0)
    near(found.money, 0, 0)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(tmp_path_factory.mktemp("seen") / "workspace.duckdb")
    worked(opened, [f"text number {n} " * (1 + n % 7) for n in range(30)], [0.1 + n % 3 for n in range(30)])
    yield opened
    opened.close()


models = st.sampled_from([MODEL, SERVER, LIKENESS])
tasks = st.sampled_from([TASK, task_of(SENTIMENT, "mood")])
prices = st.builds(Settings, samples=st.integers(1, 9), price_in=st.floats(0, 100), price_out=st.floats(0, 100))


@settings(max_examples=40)
@given(models, tasks, prices, st.integers(0, 10**7), st.integers(0, 10**7))
def test_more_rows_never_take_less(
    seen: Store, model: ModelSpec, task: Task, asked: Settings, one: int, other: int
) -> None:
    fewer, more = (estimate(seen, task, model, rows, asked) for rows in sorted((one, other)))
    for name in ("tokens", "seconds", "money"):
        least, most = getattr(fewer, name), getattr(more, name)
        low_high(least, most)
        assert (least is None) == (most is None)
        if least is not None:
            assert least[0] <= most[0]
            assert least[1] <= most[1]


def test_an_estimate_says_what_it_goes_by(seen: Store) -> None:
    found = estimate(seen, TASK, SERVER, 5, Settings())
    assert isinstance(found, Estimate)
    assert found.basis == "the lengths of texts and instructions"
