"""Task documents: what people write is read back as they meant it, or the line that is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workspace import tasks
from workspace.errors import TaskError
from workspace.store import Store
from workspace.task import Dimension, Label, Task, parse_task, task_id, to_yaml

GOOD = """\
name: mood
dimensions:
  - name: feeling
    question: How does it feel?
    labels: [good, bad]
"""


@pytest.mark.parametrize(
    ("document", "line", "words"),
    [
        (GOOD + "colour: red\n", 6, "`colour` is not a setting known here"),
        (GOOD.replace("    labels: [good, bad]\n", ""), 3, "needs 2 to 1000 labels, this one has 0"),
        (GOOD.replace("    question: How does it feel?\n", ""), 3, "`question` is missing"),
        (GOOD.replace("[good, bad]", "[good, Good]"), 3, "'good' appears twice"),
        (GOOD.replace("[good, bad]", "[~, bad]"), 5, "put it in quotes"),
        (GOOD.replace("name: mood", "name: My mood"), 1, "lower case letters"),
        (GOOD.replace("    labels", "\tlabels"), 5, "not valid YAML"),
        (GOOD.replace("[good, bad]", "[good, bad"), 6, "not valid YAML"),
        (GOOD + "name: again\n", 6, "`name` is there twice"),
        (GOOD + "weights: {humour: 1}\n", 0, "names no dimension"),
        ("", 1, "A task is a list of settings"),
        ("- a\n- b\n", 1, "A task is a list of settings"),
        ("name: !!python/object/apply:os.system ['true']\n", 1, "not valid YAML"),
    ],
)
def test_an_error_names_the_line_and_what_was_expected(document: str, line: int, words: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(document)
    assert words in caught.value.title
    if line:
        assert caught.value.line == line


@pytest.mark.parametrize(
    "document",
    [
        "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{n + 1}: &a{n + 1} [{','.join([f'*a{n}'] * 9)}]\n" for n in range(12)),
        "name: a\ndimensions: &d\n  - *d\n",
        "x: " + "[" * 100_000,
        "x: " + "{a: " * 100_000,
        "a" * (1 << 20) + "a",
    ],
    ids=["billion laughs", "recursion", "brackets", "braces", "huge"],
)
def test_documents_made_to_take_forever_are_refused(document: str) -> None:
    with pytest.raises(TaskError):
        parse_task(document)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("[yes, no]", ("yes", "no")),
        ("[1, 2.5]", ("1", "2.5")),
        ("{yes: it is, no: it is not}", ("yes", "no")),
        ("[{name: yes}, {name: no}]", ("yes", "no")),
    ],
)
def test_words_yaml_takes_for_something_else_are_labels_as_written(written: str, names: tuple[str, ...]) -> None:
    task = parse_task(GOOD.replace("[good, bad]", written))
    assert task.dimensions[0].label_names == names


# A bar joins the labels of a multi dimension: no label has one.
word = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="|"), min_size=1, max_size=8)
words = st.lists(word, min_size=1, max_size=3).map(" ".join)
identifiers = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
labels = st.lists(
    st.builds(Label, name=words, description=words | st.just(""), examples=st.lists(words, max_size=2).map(tuple)),
    min_size=2,
    max_size=4,
    unique_by=lambda label: label.name.casefold(),
)
dimensions = st.builds(
    Dimension,
    name=identifiers,
    kind=st.sampled_from(["single", "multi"]),
    question=words.map(lambda text: text + " or not?"),
    labels=labels.map(tuple),
)
documents = st.builds(
    Task,
    name=identifiers,
    title=words | st.just(""),
    description=words | st.just(""),
    dimensions=st.lists(dimensions, min_size=1, max_size=3, unique_by=lambda d: d.name).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(task=documents)
def test_a_task_written_as_a_document_is_read_back_the_same(task: Task) -> None:
    again = parse_task(to_yaml(task))
    assert again == task
    assert task_id(again) == task_id(task)


def test_layout_does_not_change_the_id_and_content_does() -> None:
    task = parse_task(GOOD)
    assert task_id(
        parse_task("# a remark\n" + GOOD.replace("[good, bad]", "\n      - good\n      - bad"))
    ) == task_id(task)
    assert task_id(parse_task(GOOD.replace("bad", "awful"))) != task_id(task)


def test_saving_keeps_versions_but_not_the_same_one_twice(store: Store) -> None:
    first, second = parse_task(GOOD), parse_task(GOOD.replace("bad", "awful"))
    id = tasks.save(store, first)
    assert tasks.save(store, first) == id
    (saved,) = tasks.newest(store)
    assert (saved.id, saved.task, saved.title, saved.versions) == (id, first, "Mood", 1)
    newer = tasks.save(store, second)
    assert [(task.id, task.versions) for task in tasks.newest(store)] == [(newer, 2)]
    tasks.save(store, first)  # gone back to
    found = tasks.newest_of(store, "mood")
    assert found is not None
    assert (found.id, found.versions) == (id, 2)
    assert tasks.get(store, newer).task == second
    assert tasks.newest_of(store, "other") is None
    with pytest.raises(TaskError, match="no such task"):
        tasks.get(store, "nope")
