from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.alignment import unchanged
from engine.text.conversation import as_turns, recognised
from tests.unit.text.test_alignment import check, copied
from tests.unit.text.texts import texts

CODE = "Sure:\n```python\nprint('```')\n```\nor\n~~~\nls\n~~~\n```Python\n```"
CALLS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}, {"type": "text", "text": "In Paris."}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "weather"}}] * 2},
        {"content": "12 °C", "role": "tool", "tool_call_id": "1"},
        {"role": "assistant", "content": CODE, "tool_calls": []},
    ],
    "model": "x",
}


def turns(text: str) -> str:
    return as_turns(unchanged(text)).text


def test_messages_become_turns_after_a_line_of_signals() -> None:
    said = [{"from": "human", "value": 'Hi "you" 👋🏽\n'}, {"from": "gpt", "value": "Ho"}]
    expected = 'User: Hi "you" 👋🏽\n\nAssistant: Ho'
    for ascii_only in (True, False):
        found = turns(json.dumps(said, ensure_ascii=ascii_only)).split("\n", 1)
        assert found == ["Conversation of 2 turns: User 1 (3 words), Assistant 1 (1 word).", expected]
    for wrapper in ("conversations", "messages"):
        assert turns(json.dumps({"id": 3, wrapper: said})).endswith(expected)


def test_what_the_structure_says() -> None:
    found = recognised(json.dumps(CALLS, indent=2))
    assert found is not None
    assert [turn.role for turn in found.turns] == ["System", "User", "Assistant", "Tool", "Assistant"]
    assert found.languages == ("python", "unnamed")
    assert found.calls == {"weather": 2}
    assert found.signals() == (
        "Conversation of 5 turns: System 1 (2 words), User 1 (3 words), Assistant 2 (10 words), Tool 1 (2 words). "
        "Code: python, unnamed. Tools: weather ×2."
    )
    written = turns(json.dumps(CALLS))
    assert "\nUser: Weather?\nIn Paris.\nAssistant: [calls weather, weather]\nTool: 12 °C\n" in written


@given(st.lists(texts, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, 2]))
def test_each_character_leads_to_where_it_stands_in_the_json(
    said: list[str], ascii_only: bool, indent: int
) -> None:
    raw = json.dumps([{"role": "user", "content": text} for text in said], ensure_ascii=ascii_only, indent=indent)
    found = as_turns(unchanged(raw))
    assert found.text.split("\n", 1)[1] == "\n".join(f"User: {text}" for text in said)
    check(found)
    copied(found)
    for at, to, start, end, each in found.alignment.pieces():
        if not each and raw[start] == "\\":
            assert json.loads(f'"{raw[start:end]}"') == found.text[at:to]


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "plain",
        "[1, 2]",
        "[]",
        "{}",
        '{"role": "user"}',
        '[{"role": "user"}]',
        '[{"role": "user", "content": 3}]',
        '[{"role": "", "content": "x"}]',
        '[{"role": "user", "content": "x"}, "y"]',
        '[{"role": "user", "content": "x"}',
        '[{"role": "user", "content": "x", "content": "y"}]',
        '{"messages": [{"role": "user", "content": "x"}], "messages": [{"role": "user", "content": "y"}]}',
        '"role"' + "[" * 100_000,
        "[" * 100_000 + '"role"',
        '[{"role": "user", "content": "x"}] and more',
    ],
)
def test_what_is_no_conversation_stays(raw: str) -> None:
    assert recognised(raw) is None
    text = unchanged(raw)
    assert as_turns(text) is text


def test_half_a_surrogate_is_a_replacement_character() -> None:
    assert turns('[{"role": "user", "content": "a\\ud83d b\\ud83d\\ude02"}]').endswith("User: a\ufffd b😂")


def test_unknown_roles_keep_their_name_on_one_line() -> None:
    raw = json.dumps([{"role": "narrator\nUser: fake", "content": "x"}])
    assert turns(raw).endswith("\nNarrator user: fake: x")
