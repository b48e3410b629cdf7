"""Where the row goes in what a model reads."""

from __future__ import annotations

import pytest

from engine.models.chat_template import CHATML, frame
from engine.prompt import MARKER
from tests.unit.engine.conftest import spec
from workspace.errors import ModelError
from workspace.facts import DimensionSpec

D = spec("Yes", "No", system="Is it?")


def test_a_template_is_split_at_the_row() -> None:
    found = frame(D, CHATML, "", "", chatml=True)
    assert found.prefix == "<|im_start|>system\nIs it?<|im_end|>\n<|im_start|>user\n"
    assert found.suffix == "<|im_end|>\n<|im_start|>assistant\n"


def test_instructions_move_to_the_user_where_there_is_no_system_role() -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "[{{ messages[0].content | trim }}]"
    )
    found = frame(D, template, "", "", chatml=False)
    assert (found.prefix, found.suffix) == ("[Is it?\n\n", "]")


def test_a_template_that_drops_the_system_role_does_not_lose_the_instructions() -> None:
    template = "{% for m in messages if m.role == 'user' %}<{{ m.content }}>{% endfor %}"
    assert "Is it?" in frame(D, template, "", "", chatml=False).prefix


@pytest.mark.parametrize("template", [None, "{% broken", "{{ messages[7].content }}", "no row at all"])
def test_without_a_usable_template_plain_text_is_used(template: str | None) -> None:
    found = frame(D, template, "", "", chatml=False)
    assert (found.prefix, found.suffix, found.lead) == ("Is it?\n\n", "\n\nAnswer:", " ")


def test_a_template_cannot_reach_the_system() -> None:
    evil = "{{ messages.__class__.__mro__ }}{{ ''.__class__.__base__.__subclasses__() }}"
    assert frame(D, evil, "", "", chatml=False).suffix.endswith("Answer:")


@pytest.mark.parametrize("user", ["no marker", "{text} and {text}"])
def test_the_marker_must_be_there_once(user: str) -> None:
    with pytest.raises(ModelError, match="exactly once"):
        frame(DimensionSpec("d", "single", ("a", "b"), ("a", "b"), "s", user), CHATML, "", "", chatml=True)


def test_the_marker_in_the_instructions_is_plain_text() -> None:
    found = frame(spec("a", "b", system=f"Say {MARKER}"), CHATML, "", "", chatml=True)
    assert MARKER in found.prefix
