"""Models of OpenAI-compatible servers: a real llama-server, and a fake for what that does not do on demand."""

from __future__ import annotations

import logging
import math
import os
import threading
from pathlib import Path
from typing import Any

import keyring
import msgspec
import pytest

from engine.labeler import Labeler
from engine.models import api_keys, servers
from engine.models.chat import LARGEST_BODY
from engine.models.opening import open_labeler
from engine.models.spending import spent
from tests.unit.engine.chat_servers.fakes import FakeOpenAI, feeling, quality, run_of, topics
from workspace.errors import BudgetReached, ModelError
from workspace.facts import DimensionSpec, ModelSpec
from workspace.kinds import label_of

KEY = "sk-a1b2c3d4e5f6g7h8"
SENTIMENT = DimensionSpec(
    "sentiment",
    "single",
    ("good", "bad"),
    ("Positive", "Negative"),
    "What feeling does the message express?\nAnswer with one of these words:\n- Positive\n- Negative",
    "{text}",
)


def opened(model: ModelSpec, *dimensions: DimensionSpec, **settings: Any) -> Labeler:
    return open_labeler(run_of(model, *dimensions, concurrency=2, **settings))


# -- a real server ------------------------------------------------------------------------------------------


@pytest.fixture
def real(llama_server: str) -> ModelSpec:
    servers.add("real", "openai", llama_server)
    return servers.resolve("openai:real")  # it has one model


def test_a_real_server_tells_probabilities_in_the_order_of_the_rows(real: ModelSpec) -> None:
    labeler = open_labeler(run_of(real, SENTIMENT))
    assert set(labeler.loaded.capabilities) >= {"logprobs", "json_schema"}
    assert labeler.loaded.build == "OpenAI API at 127.0.0.1 (llamacpp)"
    assert labeler.loaded.n_ctx == 512
    rows = ["I love it so much", "I hate this horrible thing", "", "what a wonderful day " * 190]
    heard: list[int] = []
    answers = [answer for (answer,) in labeler.ask([*rows, rows[0]], heard.append)]
    assert heard[-1] == 5
    names = [label_of("single", SENTIMENT.labels, answer.logprobs)[0] for answer in answers]
    assert names[:2] == ["good", "bad"]
    assert answers[4].logprobs == answers[0].logprobs
    for answer in answers:
        assert math.fsum(math.exp(value) for value in answer.logprobs) == pytest.approx(1)
    assert [answer.error for answer in answers] == [""] * 5
    # The last of them did not fit, and was cut until it did.
    assert [answer.warnings for answer in answers] == [(), (), ("empty",), ("truncated",), ()]
    assert 100 < answers[3].prompt_tokens < 512
    assert 30 < answers[0].prompt_tokens < 60
    assert answers[0].completion_tokens == 1
    assert sum(answer.seconds for answer in answers) > 0
    labeler.close()


def test_a_real_server_keeps_to_the_schema(real: ModelSpec) -> None:
    labeler = open_labeler(run_of(real, topics(), quality(explain=True)))
    row = labeler.ask(["I love the food they have at the game"])[0]
    assert [one.error for one in row] == ["", ""]
    assert [len(one.logprobs) for one in row] == [2, 11]
    assert all("no_probabilities" in one.warnings for one in row)
    labeler.close()


def test_instructions_that_do_not_fit_are_told(real: ModelSpec) -> None:
    long = msgspec.structs.replace(SENTIMENT, system="Read it well. " * 2000)
    with pytest.raises(ModelError, match="instructions are too long"):
        open_labeler(run_of(real, long))


# -- a fake one ---------------------------------------------------------------------------------------------


def test_probabilities_of_a_server_that_tells_twenty(fake_openai: FakeOpenAI, small: ModelSpec) -> None:
    labeler = opened(small)
    fake_openai.asked.clear()
    (answer,) = labeler.ask(["so angry"])[0]
    assert math.exp(answer.logprobs[1]) == pytest.approx(0.7 / 0.85)
    (body,) = fake_openai.asked
    assert (body["top_logprobs"], body["max_tokens"], body["temperature"]) == (20, 1, 0)
    assert small.name == "fake/small"
    assert servers.own(small) == small


def test_a_server_without_anything_is_asked_in_words(fake_openai: FakeOpenAI, small: ModelSpec) -> None:
    fake_openai.most_top, fake_openai.schema, fake_openai.usage = 0, False, False
    labeler = opened(small, feeling(), topics())
    assert "logprobs" not in labeler.loaded.capabilities
    assert "json_schema" not in labeler.loaded.capabilities
    answers = labeler.ask(["angry about food"])[0]
    assert [one.error for one in answers] == ["", ""]
    assert label_of("multi", topics().labels, answers[1].logprobs)[0] == "food"


def test_an_older_or_newer_dialect_is_found(fake_openai: FakeOpenAI, small: ModelSpec) -> None:
    answer = fake_openai.answer

    def picky(path: str, body: dict[str, Any]) -> bytes | None:
        if "max_tokens" in body or "chat_template_kwargs" in body:
            raise AssertionError
        return answer(path, body)

    handle = fake_openai.handle

    def refusing(handler: Any, body: dict[str, Any]) -> None:
        if "max_tokens" in body or "chat_template_kwargs" in body:
            fake_openai.send(handler, 400, fake_openai.error("Unsupported parameter: use max_completion_tokens"))
        else:
            handle(handler, body)

    fake_openai.answer, fake_openai.handle = picky, refusing  # type: ignore[method-assign]
    labeler = opened(small)
    (found,) = labeler.ask(["so angry"])[0]
    assert found.error == ""
    assert fake_openai.asked[-1]["max_completion_tokens"] == 1


def test_busy_servers_are_asked_again(fake_openai: FakeOpenAI, small: ModelSpec) -> None:
    labeler = opened(small)
    fake_openai.fail = [(429, {"retry-after-ms": "5"}), (503, {}), (500, {}), (529, {"retry-after": "0"})]
    answers = labeler.ask([f"angry {number}" for number in range(6)])
    assert all(answer.error == "" for (answer,) in answers)
    assert fake_openai.fail == []


@pytest.mark.parametrize(
    ("status", "words", "shown"),
    [
        (401, f"Incorrect API key provided: {KEY}", "does not accept the key"),
        (403, "no", "does not accept the key"),
        (402, "pay", "no money left"),
        (404, "no model", "no such model"),
        (307, "elsewhere", "another address"),
    ],
)
def test_what_no_row_can_change_ends_the_asking(
    fake_openai: FakeOpenAI, small: ModelSpec, monkeypatch: pytest.MonkeyPatch, status: int, words: str, shown: str
) -> None:
    monkeypatch.setenv("WINNOW_API_KEY_FAKE", KEY)
    labeler = opened(small)
    fake_openai.asked.clear()
    fake_openai.always = (status, words)
    with pytest.raises(ModelError, match=shown) as caught:
        labeler.ask([f"row {number}" for number in range(100)])
    assert KEY not in f"{caught.value} {caught.value.details} {caught.value!r}"
    assert len(fake_openai.asked) < 20


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b'"text"']
)
def test_answers_that_are_none_are_told(fake_openai: FakeOpenAI, small: ModelSpec, raw: bytes) -> None:
    labeler = opened(small, retries=0)
    fake_openai.raw = raw
    (answer,) = labeler.ask(["angry"])[0]
    assert "cannot be read" in answer.error


def test_answers_of_any_size_are_not_read(fake_openai: FakeOpenAI, small: ModelSpec) -> None:
    labeler = opened(small, retries=0)
    fake_openai.padding = LARGEST_BODY
    (answer,) = labeler.ask(["angry"])[0]
    assert "larger than" in answer.error


def test_the_budget_stops_before_it_is_passed_and_after_a_restart(
    fake_openai: FakeOpenAI, small: ModelSpec, own_folders: Path
) -> None:
    prices = {"price_in": 10_000.0, "price_out": 10_000.0}  # 1.1 a reply of the fake, 3 to 4 at its most
    labeler = opened(small, **prices, budget=30.0)
    rows = [f"angry {number}" for number in range(100)]
    with pytest.raises(BudgetReached) as caught:
        labeler.ask(rows)
    folder = own_folders / "winnow" / "spending"
    assert 25 < spent(folder, "run") <= 30
    assert len(caught.value.answered) >= 5
    labeler.close()
    with pytest.raises(BudgetReached):
        opened(small, **prices, budget=30.0)
    assert spent(folder, "run") <= 30
    assert opened(small, **prices, budget=60.0).ask(rows[:2])


# -- keys ---------------------------------------------------------------------------------------------------


def files_with(folder: Path, text: str) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_a_key_goes_to_its_server_and_nowhere_else(
    fake_openai: FakeOpenAI,
    small: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Also where the server repeats it in its answers and errors."""
    monkeypatch.setenv("WINNOW_API_KEY_FAKE", KEY)
    caplog.set_level(logging.DEBUG)
    says = fake_openai.says
    fake_openai.says = lambda body, **more: f"{KEY} {says(body, **more)}"  # type: ignore[method-assign]
    fake_openai.logprobs = False
    labeler = opened(small, feeling(explain=True), repairs=0, retries=0)
    answers = labeler.ask(["so angry", "glad"])
    fake_openai.unreadable = 10**6
    answers += labeler.ask(["unreadable"])
    fake_openai.always = (500, f"what is {KEY}?")
    answers += labeler.ask(["broken"])
    fake_openai.always = (429, f"who is {KEY}?")
    with pytest.raises(ModelError) as caught:
        labeler.ask(["busy"])
    assert fake_openai.headers[-1]["authorization"] == f"Bearer {KEY}"
    assert answers[2][0].reply.startswith(api_keys.HIDDEN)
    seen = [repr(answers), repr(labeler.loaded), repr(small), str(caught.value), caught.value.details]
    output = capfd.readouterr()
    assert not [text for text in (*seen, caplog.text, output.out, output.err) if KEY in text]
    assert files_with(tmp_path, KEY) == []
    labeler.close()


def test_a_key_for_openai_is_for_openai_only(
    fake_openai: FakeOpenAI, small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"x-mine: {KEY}")
    opened(small).close()
    assert not any(KEY in value for headers in fake_openai.headers for value in headers.values())
    assert api_keys.key_for("other", "https://api.openai.com/v1") == KEY
    assert api_keys.key_for("other", "http://api.openai.com/v1") == ""
    assert api_keys.key_for("other", "https://api.openai.com.example.org") == ""


def test_a_key_is_not_sent_unencrypted_through_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(api_keys.variable("my-server"), KEY)
    assert api_keys.variable("my-server") == "WINNOW_API_KEY_MY_SERVER"
    with pytest.raises(ModelError, match="not encrypted") as caught:
        api_keys.key_for("my-server", "http://example.org/v1")
    assert KEY not in str(caught.value)
    assert api_keys.key_for("my-server", "https://example.org/v1") == KEY
    assert api_keys.key_for("my-server", "http://192.168.0.7:8000") == KEY
    monkeypatch.setenv(api_keys.variable("my-server"), f"{KEY}\nx-evil: 1")
    with pytest.raises(ModelError, match="one line") as caught:
        api_keys.key_for("my-server", "https://example.org/v1")
    assert KEY not in str(caught.value)


def test_a_key_may_lie_in_the_systems_store(monkeypatch: pytest.MonkeyPatch) -> None:
    class Store(keyring.backend.KeyringBackend):
        kept: dict[tuple[str, str], str] = {}  # noqa: RUF012

        def get_password(self, service: str, username: str) -> str | None:
            return self.kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del self.kept[service, username]

    before = keyring.get_keyring()
    keyring.set_keyring(Store())  # type: ignore[no-untyped-call]
    try:
        api_keys.remember("mine", KEY)
        assert Store.kept == {("winnow", "mine"): KEY}
        assert api_keys.key_for("mine", "https://example.org") == KEY
        api_keys.forget("mine")
        api_keys.forget("mine")
        assert api_keys.key_for("mine", "https://example.org") == ""
        monkeypatch.setattr(Store, "set_password", lambda *_: 1 / 0)
        with pytest.raises(ModelError, match="no key store") as caught:
            api_keys.remember("mine", KEY)
        assert KEY not in repr(caught.value.__context__) + str(caught.value)
        monkeypatch.setattr(Store, "get_password", lambda *_: threading.Event().wait())
        monkeypatch.setattr(api_keys, "PATIENCE", 0.01)
        assert api_keys.key_for("mine", "https://example.org") == ""  # a store that waits for somebody
    finally:
        keyring.set_keyring(before)


def test_no_key_is_in_the_environment_of_these_tests() -> None:
    assert not [name for name in os.environ if name.startswith("WINNOW_API_KEY_")]
