"""The plan is a function of the set of entries: in any order, in any portions, answered twice or not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cluster.effects import Claim
from engine.cluster.entries import BlockFound, Labeled, RunOpened, StateSet
from engine.cluster.facts import error_answer, labeled
from engine.cluster.messages import Epoch, Work
from engine.cluster.plan import RunPlan
from engine.labeler import Answer
from tests.unit.cluster.examples import spec

AUTHORS = tuple(f"{number:032x}.{'0' * 16}" for number in range(2))
ROWS = 12
RUN = spec("mood", "tone")

Step = tuple[int, list[int], bool]  # block, places, whether they are errors


def entry(step: Step) -> Labeled:
    block, places, wrong = step
    at = tuple(sorted(places))
    good = Answer((-0.1, -2.35), 1, 1, 0.1)
    row = (good, error_answer("wrong") if wrong else good)
    claim = Claim(Epoch(1, AUTHORS[0]), 1, Work(RUN.run_id, (AUTHORS[block], 7), at))
    return labeled(RUN, claim, [f"row {block}/{place}" for place in at], [row] * len(at), "node", 1.0, 1.0)


def block(number: int, again: int = 0) -> BlockFound:
    """A block of rows, of which the first `again` are those of block 0."""
    elsewhere = {place: ((AUTHORS[0], 7), place) for place in range(again)}
    return BlockFound(RUN.run_id, (AUTHORS[number], 7), ROWS, elsewhere)


steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.lists(st.integers(0, ROWS - 1), min_size=1, unique=True),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(0, ROWS), st.randoms(use_true_random=False))
def test_what_is_answered_follows_from_the_set_of_entries(done: list[Step], again: int, random: object) -> None:
    events: list[object] = [RunOpened(RUN), block(0), block(1, again), *map(entry, done)]
    random.shuffle(events)  # type: ignore[attr-defined]
    plan = RunPlan(RUN.run_id)
    for event in events:
        if isinstance(event, RunOpened):
            plan.open(event)
        elif isinstance(event, BlockFound):
            plan.add_block(event)
        else:
            assert isinstance(event, Labeled)
            plan.answer("machine", None, event)

    # The same, told naively: a label comes before an error, whoever says it and whenever.
    says: dict[tuple[int, int], bool] = {}
    for number, places, wrong in done:
        for place in places:
            row = (0, place) if number == 1 and place < again else (number, place)
            says[row] = says.get(row, True) and wrong
    rows = {(number, place) for number in (0, 1) for place in range(ROWS) if number == 0 or place >= again}
    assert plan.rows == len(rows)
    assert plan.done == len(says)
    assert plan.left == len(rows) - len(says)
    assert plan.failed == sum(says.values())
    for number in (0, 1):
        open_places = plan.unanswered((AUTHORS[number], 7), range(ROWS))
        canonical = [(0 if number == 1 and place < again else number, place) for place in range(ROWS)]
        assert open_places == tuple(p for p, row in enumerate(canonical) if row not in says)


def test_the_latest_state_counts_in_any_order() -> None:
    first, second = StateSet(RUN.run_id, "running", "", 3), StateSet(RUN.run_id, "paused", "later", 4)
    for order in ((first, second), (second, first)):
        plan = RunPlan(RUN.run_id)
        for body in order:
            plan.set_state(AUTHORS[0], body.clock, body)
        assert (plan.state, plan.note) == ("paused", "later")
