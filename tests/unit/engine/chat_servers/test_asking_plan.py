"""In which order dimensions are asked, and which together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.asking_plan import stages_of
from workspace.facts import DimensionSpec


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[DimensionSpec], list[bool]]:
    count = draw(st.integers(1, 8))
    dimensions = []
    for place in range(count):
        after = draw(st.sets(st.integers(0, place - 1))) if place else set()
        system = draw(st.sampled_from(["a", "b"]))
        names = tuple(f"d{other}" for other in sorted(after))
        dimensions.append(
            DimensionSpec(f"d{place}", "single", ("x", "y"), ("x", "y"), system, "{text}", after=names)
        )
    return dimensions, draw(st.lists(st.booleans(), min_size=count, max_size=count))


@settings(max_examples=40)
@given(tasks())
def test_everything_is_asked_once_and_after_what_it_is_told(task: tuple[list[DimensionSpec], list[bool]]) -> None:
    dimensions, told = task
    stages = stages_of(dimensions, told)
    assert sorted(place for stage in stages for step in stage for place in step.places) == list(range(len(told)))
    done: set[str] = set()
    for stage in stages:
        for step in stage:
            asked = [dimensions[place] for place in step.places]
            assert len({(one.system, one.user) for one in asked}) == 1
            assert step.told == told[step.places[0]]
            assert not step.told or len(asked) == 1
            for number, one in enumerate(asked):
                assert set(one.after) <= done | {other.name for other in asked[:number]}
        done |= {dimensions[place].name for step in stage for place in step.places}


@given(st.integers(1, 8))
def test_dimensions_with_the_same_instructions_are_one_request(count: int) -> None:
    names = [f"d{place}" for place in range(count)]
    dimensions = [
        DimensionSpec(name, "single", ("x", "y"), ("x", "y"), "s", "{text}", after=tuple(names[:place]))
        for place, name in enumerate(names)
    ]
    assert len(stages_of(dimensions, [False] * count)) == 1
    assert len(stages_of(dimensions, [True] * count)) == count
