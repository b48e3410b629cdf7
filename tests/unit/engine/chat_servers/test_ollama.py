"""Models of an Ollama server: a fake that answers what its client demands, and a real one where there is one."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.labeler import Labeler
from engine.models import servers
from engine.models.chat import LARGEST_BODY
from engine.models.ollama_labeler import default_address, installed, pull
from engine.models.opening import open_labeler
from tests.unit.engine.chat_servers.fakes import DIGEST, NAME, FakeOllama, feeling, quality, run_of, topics
from workspace.errors import ModelError
from workspace.facts import DimensionSpec
from workspace.kinds import label_of

ROWS = ["I am glad", "so angry!", "calm seas", "I am glad"]
REAL = os.environ.get("OLLAMA_HOST", "")  # before any test changes it


def opened(*dimensions: DimensionSpec, **settings: Any) -> Labeler:
    return open_labeler(run_of(servers.resolve("ollama:small"), *dimensions, concurrency=2, **settings))


def said(labeler: Labeler, rows: list[str], dimension: DimensionSpec, place: int = 0) -> list[str]:
    return [
        label_of(dimension.kind, dimension.labels, answers[place].logprobs)[0] for answers in labeler.ask(rows)
    ]


def test_one_token_tells_the_probabilities(fake_ollama: FakeOllama) -> None:
    labeler = opened()
    assert {"logprobs", "json_schema"} <= set(labeler.loaded.capabilities)
    assert labeler.loaded.build == "Ollama 0.12.11"
    assert labeler.loaded.name == NAME
    assert labeler.loaded.n_ctx == 4096
    fake_ollama.asked.clear()
    heard: list[int] = []
    answers = labeler.ask(ROWS, heard.append)
    assert heard[-1] == 4
    assert len(fake_ollama.asked) == 3  # a text that is there twice is asked once
    for body in fake_ollama.asked:
        assert body["options"]["num_predict"] == 1
        assert body["options"]["num_ctx"] == 4096
        assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert said(labeler, ROWS, feeling()) == ["glad", "angry", "calm", "glad"]
    first = answers[0][0]
    assert math.exp(first.logprobs[0]) == pytest.approx(0.7 / 0.85)
    assert (first.prompt_tokens, first.completion_tokens, first.warnings) == (20, 3, ())
    assert (answers[3][0].logprobs, answers[3][0].prompt_tokens) == (first.logprobs, 0)
    labeler.close()
    labeler.close()


def test_without_log_probabilities_all_dimensions_are_one_json_object(fake_ollama: FakeOllama) -> None:
    fake_ollama.logprobs = False
    labeler = opened(feeling(explain=True), topics(), quality(after=("feeling",)))
    assert "logprobs" not in labeler.loaded.capabilities
    assert labeler.loaded.build == "Ollama 0.12.11, 3 of 3 by JSON"
    fake_ollama.asked.clear()
    answers = labeler.ask(["angry about sport, 3 of 10", "glad"])
    assert len(fake_ollama.asked) == 2
    assert list(fake_ollama.asked[0]["format"]["properties"]) == [
        "feeling",
        "feelingExplanation",
        "topics",
        "quality",
    ]
    first = answers[0]
    assert [
        label_of(d.kind, d.labels, a.logprobs)[0]
        for d, a in zip((feeling(), topics(), quality()), first, strict=True)
    ] == [
        "angry",
        "sport",
        "3",
    ]
    assert first[0].explanation == "The words say so."
    assert {one.warnings for one in first} == {("no_probabilities",)}
    assert sum(one.prompt_tokens for one in first) == 20
    assert sum(one.completion_tokens for one in first) == 3


def test_several_draws_are_shares(fake_ollama: FakeOllama) -> None:
    fake_ollama.logprobs = False
    labeler = opened(samples=3, temperature=0.8)
    fake_ollama.asked.clear()
    (answer,) = labeler.ask(["angry"])[0]
    assert answer.warnings == ("sampled",)
    assert math.exp(answer.logprobs[1]) > 0.95
    options = [body["options"] for body in fake_ollama.asked]
    assert {one["temperature"] for one in options} == {0.8}
    assert len({one["seed"] for one in options}) == 3


def test_dimensions_are_told_earlier_answers(fake_ollama: FakeOllama) -> None:
    labeler = opened(feeling(cue="feeling:"), feeling("again", cue="again:", after=("feeling",)))
    fake_ollama.asked.clear()
    labeler.ask(["so angry!"])
    assert [body["messages"][-1]["content"] for body in fake_ollama.asked] == [
        "so angry!\n\nfeeling:",
        "so angry!\n\nfeeling: Angry\nagain:",
    ]


def test_a_row_whose_tokens_do_not_tell_is_asked_by_json(fake_ollama: FakeOllama) -> None:
    labeler = opened()
    fake_ollama.tokens = lambda body, top: [  # type: ignore[method-assign]
        {"token": "I", "logprob": -0.01, "top_logprobs": [{"token": "I", "logprob": -0.01}]}
    ]
    (answer,) = labeler.ask(["angry"])[0]
    assert answer.warnings == ("no_probabilities",)
    assert label_of("single", feeling().labels, answer.logprobs)[0] == "angry"
    assert answer.prompt_tokens == 40  # both requests


def test_what_can_be_repaired_is(fake_ollama: FakeOllama) -> None:
    fake_ollama.logprobs = False
    labeler = opened(feeling(), topics())
    fake_ollama.asked.clear()
    fake_ollama.unreadable = 2
    answers = labeler.ask(["angry sport"])[0]
    assert [one.error for one in answers] == ["", ""]
    assert answers[0].warnings == ("no_probabilities", "repaired")
    assert answers[0].reply == "I would rather talk about the weather."
    assert len(fake_ollama.asked) == 3
    assert fake_ollama.asked[1]["messages"][-2]["content"] == "I would rather talk about the weather."
    assert "JSON object" in fake_ollama.asked[1]["messages"][-1]["content"]


def test_what_cannot_be_read_is_an_error_and_the_others_go_on(fake_ollama: FakeOllama) -> None:
    fake_ollama.logprobs = False
    labeler = opened(repairs=1)
    says, weather = fake_ollama.says, "I would rather talk about the weather."
    fake_ollama.says = (  # type: ignore[method-assign]
        lambda body, **more: weather if "moody" in body["messages"][1]["content"] else says(body, **more)
    )
    answers = [answer for (answer,) in labeler.ask(["angry", "moody", "calm"])]
    assert [bool(one.error) for one in answers] == [False, True, False]
    assert answers[1].error.startswith("The reply could not be read")
    assert answers[1].reply == weather
    assert answers[1].logprobs == ()
    assert answers[1].prompt_tokens == 40  # of both tries


def test_a_full_queue_is_waited_for(fake_ollama: FakeOllama) -> None:
    labeler = opened()
    fake_ollama.fail = [(503, {"retry-after": "0"}), (503, {}), (429, {})]
    assert said(labeler, ["angry", "glad"], feeling()) == ["angry", "glad"]


def test_a_server_that_stays_full_ends_the_asking_and_what_was_answered_is_kept(fake_ollama: FakeOllama) -> None:
    labeler = opened(retries=1)
    fake_ollama.asked.clear()

    def fill() -> None:
        if len(fake_ollama.asked) > 3:
            fake_ollama.always = (503, "queue full")

    fake_ollama.on_chat = fill
    with pytest.raises(ModelError, match="does not answer any more") as caught:
        labeler.ask([f"angry {number}" for number in range(20)])
    assert "labels so far are kept" in caught.value.advice
    assert len(caught.value.answered) == 3
    assert all(len(answers) == 1 and answers[0].logprobs for answers in caught.value.answered.values())
    fake_ollama.on_chat, fake_ollama.always = (lambda: None), None
    assert said(labeler, ["angry"], feeling()) == ["angry"]


def test_a_server_that_dies_in_the_middle_is_told(fake_ollama: FakeOllama) -> None:
    labeler = opened(retries=1)
    fake_ollama.dies_after = len(fake_ollama.asked) + 2
    with pytest.raises(ModelError, match="does not answer any more"):
        labeler.ask([f"angry {number}" for number in range(20)])


def test_one_row_that_the_server_fails_at_is_that_rows_error(fake_ollama: FakeOllama) -> None:
    labeler = opened(retries=0)
    fake_ollama.fail = [(500, {})]
    answers = [answer for (answer,) in labeler.ask(["a", "b", "c"])]
    assert sorted(one.error for one in answers) == ["", "", "come back later"]


def test_a_server_that_fails_at_every_row_is_not_asked_for_all_of_them(fake_ollama: FakeOllama) -> None:
    labeler = opened(retries=0)
    fake_ollama.asked.clear()
    fake_ollama.always = (500, "out of memory")
    with pytest.raises(ModelError, match="does not answer any more"):
        labeler.ask([f"row {number}" for number in range(100)])
    assert len(fake_ollama.asked) < 10


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"[]", b'{"message": 3}', b'{"message": {"role": "x"}, "logprobs": 1}']
)
def test_answers_that_are_none_are_told_and_never_crash(fake_ollama: FakeOllama, raw: bytes) -> None:
    labeler = opened(retries=0)
    fake_ollama.raw = raw
    (answer,) = labeler.ask(["angry"])[0]
    assert answer.error.startswith("What it answered cannot be read")


def test_answers_of_any_size_are_not_read(fake_ollama: FakeOllama) -> None:
    labeler = opened(retries=0)
    fake_ollama.padding = LARGEST_BODY
    (answer,) = labeler.ask(["angry"])[0]
    assert "larger than" in answer.error


def test_a_row_that_is_too_long_is_cut_and_says_so(fake_ollama: FakeOllama) -> None:
    labeler = opened()
    fake_ollama.room = 2000
    (answer,) = labeler.ask(["angry " * 10_000])[0]
    assert answer.warnings == ("truncated",)
    assert label_of("single", feeling().labels, answer.logprobs)[0] == "angry"
    assert labeler.ask(["  "])[0][0].warnings == ("empty",)


@pytest.mark.parametrize("serial", [False, True])
def test_what_the_server_does_at_a_time_is_measured(fake_ollama: FakeOllama, serial: bool) -> None:
    fake_ollama.seconds, fake_ollama.serial = 0.12, serial
    labeler = open_labeler(run_of(servers.resolve("ollama:small")))
    assert ("parallel" in labeler.loaded.capabilities) is not serial
    if serial:
        fake_ollama.seconds, fake_ollama.most_at_once = 0.0, 0
        labeler.ask([f"row {number}" for number in range(40)])
        assert fake_ollama.most_at_once <= 2


def test_somebody_hears_while_nothing_arrives(fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.models.server_labeler.BEAT", 0.01)
    labeler = opened()
    fake_ollama.seconds = 0.15
    heard: list[int] = []
    labeler.ask(["angry"], heard.append)
    assert heard[-1] == 1
    assert len(heard) >= 4


def test_a_model_that_is_not_there_is_named(fake_ollama: FakeOllama) -> None:
    with pytest.raises(ModelError, match="no model called 'big'") as caught:
        servers.resolve("ollama:big")
    assert "ollama pull big" in caught.value.advice


def test_another_model_under_the_same_name_is_not_the_runs(fake_ollama: FakeOllama) -> None:
    model = servers.resolve("ollama:small")
    fake_ollama.models = ((NAME, "0" * 64, 1),)
    with pytest.raises(ModelError, match="another model by now"):
        open_labeler(run_of(model))
    assert servers.own(model) is None


def test_a_model_that_thinks_aloud_is_told_not_to(fake_ollama: FakeOllama) -> None:
    fake_ollama.capabilities = ("completion", "thinking")
    labeler = opened()
    assert fake_ollama.asked[-1]["think"] is False
    labeler.close()


def test_the_list_tells_sizes_and_digests(fake_ollama: FakeOllama) -> None:
    (model,) = installed()
    assert (model.name, model.digest, model.size) == (NAME, DIGEST, 1234)
    (offered,) = servers.models_of(servers.this_ollama())
    assert servers.resolve(offered.asked_as).digest == DIGEST == offered.digest


def test_a_download_tells_how_far_it_is_and_why_it_failed(fake_ollama: FakeOllama) -> None:
    heard: list[tuple[str, int, int]] = []
    fake_ollama.pulled = ({"status": "pulling", "completed": 5, "total": 10}, {"status": "success"})
    pull("small", lambda *part: heard.append(part))
    assert heard == [("pulling", 5, 10), ("success", 0, 0)]
    fake_ollama.pulled = ({"error": "file does not exist"},)
    with pytest.raises(ModelError, match="could not get 'nothing'") as caught:
        pull("nothing")
    assert "file does not exist" in caught.value.details


def test_keys_and_cookies_of_others_do_not_reach_it(
    fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "secret-of-ollama-com")
    installed()
    opened().close()
    assert fake_ollama.headers
    assert not any("secret" in value for headers in fake_ollama.headers for value in headers.values())


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        (":5000", "http://127.0.0.1:5000"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://[::]:11434/", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("https://box/ollama/", "https://box/ollama"),
    ],
)
def test_the_address_is_the_one_ollama_itself_would_use(
    monkeypatch: pytest.MonkeyPatch, typed: str, address: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", typed)
    assert default_address() == address


def test_nobody_there_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOllama() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        model = servers.resolve("ollama:small")
    began = time.monotonic()
    with pytest.raises(ModelError, match="cannot be reached"):
        open_labeler(run_of(model))
    with pytest.raises(ModelError, match="cannot be reached"):
        servers.resolve("ollama:small")
    assert servers.own(model) is None
    assert time.monotonic() - began < 5


def test_a_real_server_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    if REAL:
        monkeypatch.setenv("OLLAMA_HOST", REAL)
    try:
        models = sorted(installed(), key=lambda one: one.size)
    except ModelError as error:
        pytest.skip(f"no Ollama server answers: {error}")
    if not models:
        pytest.skip("the Ollama server has no models")
    labeler = open_labeler(run_of(servers.resolve(f"ollama:{models[0].name}")))
    answers = labeler.ask(["I am so glad about this", "This makes me angry"])
    assert all(not answer.error for (answer,) in answers)
    labeler.close()


def test_of_very_many_labels_those_that_come_into_question_are_asked(fake_ollama: FakeOllama) -> None:
    words = ("banana", "guitar", *(f"committee number {number}" for number in range(60)))
    many = DimensionSpec(
        "topic", "single", words, words, "What is it about?", "{text}\n\nPossible labels: {labels}"
    )
    some = msgspec.structs.replace(many, name="topics", kind="multi")
    labeler = opened(many, some)
    row, listed = "he plays the guitar, an old guitar with strings", "Possible labels: "
    fake_ollama.asked.clear()
    first, second = labeler.ask([row])[0]
    shown = [body["messages"][-1]["content"] for body in fake_ollama.asked]
    assert len(shown) == 2  # each with its own list
    assert all("guitar" in one.partition(listed)[2] for one in shown)
    assert all(one.partition(listed)[2].count(",") == 31 for one in shown)
    assert label_of("single", words, first.logprobs)[0] == "guitar"
    assert label_of("multi", words, second.logprobs)[0] == "guitar"
    assert math.fsum(math.exp(value) for value in first.logprobs) == pytest.approx(1)
    assert len(first.logprobs) == len(second.logprobs) == 62
    assert "pruned" in first.warnings
    assert "pruned" in second.warnings


def test_what_was_answered_before_a_server_was_lost_is_not_asked_again(
    fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WINNOW_ANSWERS", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = [f"angry {number}" for number in range(20)]
    labeler = opened(retries=0)
    fake_ollama.dies_after = len(fake_ollama.asked) + 7
    with pytest.raises(ModelError) as caught:
        labeler.ask(rows)
    labeler.close()
    kept = len(caught.value.answered)
    assert kept >= 5
    fake_ollama.dies_after = None
    labeler = opened(retries=0)
    fake_ollama.asked.clear()
    answers = [answer for (answer,) in labeler.ask(rows)]
    assert len(fake_ollama.asked) == 20 - kept
    assert sum("cached" in answer.warnings for answer in answers) == kept
    labeler.close()
