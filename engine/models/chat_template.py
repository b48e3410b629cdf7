"""What a model reads before and after a row: its own chat template, rendered once around a marker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workspace.errors import ModelError
from workspace.facts import DimensionSpec

MARKER = "{text}"
# Stands where the row goes while a template renders. No white space, so that templates that trim leave it alone.
_SENTINEL = "\ue000winnow\ue001row\ue002"

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
PLAIN = "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}Answer:"


@dataclass(frozen=True)
class Frame:
    """Text before the row, text after it, and what separates the latter from the answer."""

    prefix: str
    suffix: str
    lead: str  # "" where an answer starts a fresh chat turn, " " after the plain "Answer:"


def frame(dimension: DimensionSpec, template: str | None, bos: str, eos: str, *, chatml: bool) -> Frame:
    """Render a dimension's messages around the row.

    `template` is the model's own (Jinja, run in a sandbox); without one, or where it cannot render these
    messages even with the instructions moved into the user's turn, ChatML is used if the model knows its
    tokens (`chatml`) and plain text if not. Raises ModelError when `dimension.user` does not hold the marker
    exactly once.
    """
    if dimension.user.count(MARKER) != 1:
        raise ModelError(
            f"The prompt of '{dimension.name}' must contain {MARKER} exactly once.",
            "It marks where the row goes. Put it at the end.",
        )
    user = dimension.user.replace(MARKER, _SENTINEL)
    system = dimension.system.strip()
    apart = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    joined = [{"role": "user", "content": f"{system}\n\n{user}" if system else user}]
    attempts = [apart, joined] if system else [joined]
    for messages in attempts if template else ():
        assert template is not None
        text = _render(template, messages, bos, eos)
        # A template without a system role either raises or silently leaves the instructions out.
        if text is not None and text.count(_SENTINEL) == 1 and system in text:
            prefix, suffix = text.split(_SENTINEL)
            return Frame(prefix, suffix, "")
    text = _render(CHATML if chatml else PLAIN, attempts[0], bos, eos)
    assert text is not None
    prefix, suffix = text.split(_SENTINEL)
    return Frame(prefix, suffix, "" if chatml else " ")


def _render(template: str, messages: list[dict[str, str]], bos: str, eos: str) -> str | None:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    try:
        # No `strftime_now` on purpose: a prompt that changes with the date would not be the run's prompt.
        text = environment.from_string(template).render(
            messages=messages,
            add_generation_prompt=True,
            enable_thinking=False,
            bos_token=bos,
            eos_token=eos,
            tools=None,
            raise_exception=_raise,
        )
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return text


def _raise(message: Any) -> None:
    raise TemplateError(str(message))
