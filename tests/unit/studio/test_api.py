"""The API against requests that are wrong, hostile, repeated or simultaneous."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from engine.client import Engine
from studio import answering, api, machines_api, runtime
from studio.local_only import LocalOnly
from tests.seeding import add_rows, seed
from tests.stand_in import StandIn
from tests.waiting import wait_for
from workspace import decisions, draws, runs
from workspace.facts import RunSpec
from workspace.store import Store, open_store

HOME = "http://127.0.0.1:8501"
TEXTS = [f"text number {number}" for number in range(40)]


class Place:
    """A workspace with one labeled run, and a client of its API."""

    def __init__(self, store: Store, spec: RunSpec, engine: StandIn) -> None:
        self.store = store
        self.spec = spec
        self.engine = engine
        self.client = TestClient(Starlette(routes=[*api.routes, *machines_api.routes]), base_url=HOME)

    def body(self, **changes: Any) -> dict[str, Any]:
        return {"session": "session-1", "run": self.spec.run_id, "dimension": "sentiment", **changes}

    def review(self, **changes: Any) -> Any:
        return self.client.post("/api/v1/review", json=self.body(**changes))

    def rows(self) -> list[str]:
        return [item["row_id"] for item in self.review(need=50).json()["items"]]

    def decided(self) -> int:
        return decisions.counts(self.store, self.spec.run_id, "sentiment").decided


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    store = open_store(tmp_path / "w.duckdb")
    spec = seed(store, TEXTS)[0]
    engine = StandIn()
    studio = runtime.Studio(store, ensure=lambda folder, start: cast("Engine", engine))
    runtime.use(studio)
    yield Place(store, spec, engine)
    studio.close()
    runtime.use(None)


def event(
    seq: int, row_id: str, action: str = "modify", label: str = "positive", **changes: Any
) -> dict[str, Any]:
    return {"seq": seq, "row_id": row_id, "action": action, "label": label, **changes}


def is_error(response: Any, status: int) -> bool:
    content = response.json()["error"]
    return response.status_code == status and bool(content["title"]) and set(content) == {"title", "advice"}


def test_decisions_are_kept_and_rows_come_back(place: Place) -> None:
    rows = place.rows()
    answer = place.review(events=[event(0, rows[0]), event(1, rows[1], "skip", "")], need=50, exclude=rows[2:5])
    assert answer.status_code == 200
    content = answer.json()
    assert content["acked"] == 1
    assert [item["row_id"] for item in content["items"]] == rows[5:]
    assert content["counts"]["decided"] == 1
    assert answer.headers["cache-control"] == "no-store"


def test_in_a_blind_sample_the_rows_of_the_sample_are_counted(place: Place) -> None:
    drawn = draws.draw(place.store, place.spec.run_id, "sentiment", 10).row_ids
    events = [event(0, drawn[0], blind=True), event(1, drawn[1], "skip", "", blind=True)]
    counts = place.review(order="sample", events=events).json()["counts"]
    assert (counts["waiting"], counts["decided"], counts["skipped"]) == (8, 2, 0)
    assert place.review(order="uncertain").json()["counts"]["waiting"] == len(TEXTS) - 2


def test_rows_others_decided_blind_come_to_those_who_have_not_decided_them(place: Place) -> None:
    rows = place.rows()
    place.review(events=[event(0, rows[0], blind=True), event(1, rows[1])], reviewer="ann")
    asked = {"order": "second", "need": 50}
    found = place.review(reviewer="bo", **asked).json()
    assert [item["row_id"] for item in found["items"]] == [rows[0]]
    assert found["counts"]["waiting"] == 1
    found = place.review(reviewer="Ann", **asked).json()
    assert found["items"] == []
    assert found["counts"]["waiting"] == 0


def test_the_same_post_twice_is_one_decision(place: Place) -> None:
    rows = place.rows()
    events = [event(0, rows[0]), event(1, rows[1])]
    assert place.review(events=events).json()["acked"] == 1
    assert place.review(events=events).json()["acked"] == 1
    assert place.review(events=[*events, event(2, rows[2])]).json()["acked"] == 2
    assert place.decided() == 3


def test_sessions_posting_at_once_do_not_disturb_each_other(place: Place) -> None:
    rows = place.rows()
    answers: list[int] = []

    def reviewer(number: int) -> None:
        mine = rows[number * 10 : number * 10 + 10]
        for seq in range(len(mine)):
            events = [event(at, mine[at]) for at in range(seq + 1)]
            answer = place.review(session=f"session-{number}", events=events, reviewer=f"r{number}")
            answers.append(answer.json()["acked"] - seq)

    threads = [threading.Thread(target=reviewer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0] * 40
    assert place.decided() == 40


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example", "", "127.0.0.1:x"]
)
def test_another_name_for_this_machine_is_refused(place: Place, host: str) -> None:
    """DNS rebinding: the browser believes that it talks to the attacker's own server."""
    assert is_error(place.client.get("/api/v1/status", headers={"host": host}), 403)
    assert is_error(place.client.post("/api/v1/review", json=place.body(), headers={"host": host}), 403)


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "localhost", "[::1]:8501"])
def test_this_machine_is_welcome(place: Place, host: str) -> None:
    assert place.client.get("/api/v1/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:9999", "null", "http://localhost:8501"]
)
def test_pages_of_others_are_refused(place: Place, origin: str) -> None:
    rows = place.rows()
    body = place.body(events=[event(0, rows[0])])
    assert is_error(place.client.post("/api/v1/review", json=body, headers={"origin": origin}), 403)
    assert place.decided() == 0
    assert place.client.post("/api/v1/review", json=body, headers={"origin": HOME}).status_code == 200


def test_what_a_form_can_send_is_refused(place: Place) -> None:
    raw = json.dumps(place.body())
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = place.client.post("/api/v1/review", content=raw, headers={"content-type": kind})
        assert is_error(answer, 415)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"session": "session-1", "run": 5, "dimension": "sentiment"}',
        b'{"session": "x", "run": "r", "dimension": "sentiment"}',
        b'{"session": "session-1", "run": "r", "dimension": "d", "surprise": 1}',
        b'{"session": "session-1", "run": "r", "dimension": "d", "need": 100000}',
        b'{"session": "session-1", "run": "r", "dimension": "d", "order": "sideways"}',
        b'{"session": "session-1", "run": "r", "dimension": "d", "events": [{"seq": 0}]}',
        b'{"session": "session-1", "run": "r", "dimension": "d", "events": [{"seq": 1e99}]}',
    ],
)
def test_garbage_gets_a_sentence(place: Place, raw: bytes) -> None:
    answer = place.client.post("/api/v1/review", content=raw, headers={"content-type": "application/json"})
    assert is_error(answer, 400)


def test_too_much_is_refused(place: Place) -> None:
    raw = b'{"session": "' + b"x" * (answering.MAX_BODY + 1) + b'"}'
    answer = place.client.post("/api/v1/review", content=raw, headers={"content-type": "application/json"})
    assert is_error(answer, 413)
    assert is_error(place.review(events=[event(seq, "r") for seq in range(1001)]), 400)


def test_unknown_things_are_not_found(place: Place) -> None:
    assert is_error(place.review(run="nowhere"), 404)
    assert is_error(place.review(dimension="nothing"), 422)
    assert is_error(place.client.get("/api/v1/progress/nowhere"), 404)
    assert is_error(place.client.get("/api/v1/jobs/nothing"), 404)
    assert is_error(place.client.post("/api/v1/runs/nowhere/state", json={"state": "paused"}), 404)
    assert is_error(place.review(events=[event(0, "r", "modify", "no such label")]), 422)


@pytest.mark.parametrize("text", ["'; drop table decisions; --", "$run", "?", "%", "\x00", "☃" * 50])
def test_sql_in_any_field_is_only_text(place: Place, text: str) -> None:
    rows = place.rows()
    changes: dict[str, Any] = {"comment": text, "shown": {"suggestion": text}}
    answer = place.review(
        events=[event(0, rows[0], **changes)], reviewer=text, domain=text, exclude=[text], need=5
    )
    assert answer.status_code == 200
    assert answer.json()["items"] == []  # nothing is of that domain
    assert place.decided() == 1
    assert is_error(place.review(run=text), 404)
    kept = place.review(history=5).json()["history"][0]
    assert kept["comment"] == text


def test_an_undo_reaches_into_an_older_session(place: Place) -> None:
    row = place.rows()[0]
    place.review(events=[event(0, row)])
    undo = event(0, row, "undo", "", undoes=0, undoes_session="session-1")
    answer = place.review(session="session-2", events=[undo], need=50, history=10).json()
    assert row in [item["row_id"] for item in answer["items"]]
    assert [entry["undone"] for entry in answer["history"]] == [True]


def test_status_and_runs_tell_what_there_is(place: Place) -> None:
    status = place.client.get("/api/v1/status").json()
    assert status["app"] == "winnow"
    assert status["overview"]["rows"] == len(TEXTS)
    run = place.client.get("/api/v1/runs").json()["runs"][0]
    assert (run["id"], run["labeled_rows"]) == (place.spec.run_id, len(TEXTS))
    standing = place.client.get(f"/api/v1/progress/{place.spec.run_id}").json()
    assert standing == {"progress": None, "problem": "", "labeled": len(TEXTS), "failed": 0, "dropped": 0}


def test_a_file_is_loaded_and_labels_are_written(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "more.csv"
    source.write_text("text\nanother row\ntext number 1\n")
    job = place.client.post("/api/v1/load", json={"path": str(source)}).json()["job"]
    found = runtime.current().jobs.find(job)
    assert found is not None
    assert found.wait(30)
    state = place.client.get(f"/api/v1/jobs/{job}").json()
    assert (state["done"], state["share"], state["error"]) == (True, 1.0, None)
    assert (state["result"]["added"], state["result"]["repeated"]) == (1, 1)

    out = tmp_path / "labels.jsonl"
    request = {"run_id": place.spec.run_id, "path": str(out), "format": "jsonl"}
    assert place.client.post("/api/v1/export", json=request).json()["rows"] == len(TEXTS)
    assert len(out.read_text().splitlines()) == len(TEXTS)
    assert is_error(place.client.post("/api/v1/export", json={**request, "path": "labels.jsonl"}), 422)
    assert is_error(place.client.post("/api/v1/load", json={"path": str(tmp_path / "missing.csv")}), 422)


def test_a_task_is_saved_once(place: Place) -> None:
    document = (
        "name: mood\ndimensions:\n  - name: mood\n    question: How does it sound?\n    labels: [good, bad]\n"
    )
    first = place.client.post("/api/v1/tasks", json={"document": document}).json()["task_id"]
    assert place.client.post("/api/v1/tasks", json={"document": document}).json()["task_id"] == first
    assert is_error(place.client.post("/api/v1/tasks", json={"document": "name: 5"}), 422)
    assert is_error(place.client.post("/api/v1/runs", json={"task_id": "none", "model": "smollm2"}), 422)


def test_every_address_of_the_server_is_for_this_machine_only() -> None:
    app = Starlette(routes=api.routes, middleware=[Middleware(LocalOnly)])
    client = TestClient(app, base_url=HOME)
    assert client.get("/anything", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/anything").status_code == 404


def test_the_events_of_the_browser_are_the_events_of_the_workspace() -> None:
    """The component sends every field there is, and none that there is not."""
    script = (Path(api.__file__).parent / "components" / "deck.js").read_text()
    fields = [field.name for field in msgspec.structs.fields(decisions.DecisionEvent)]
    for field in fields:
        assert f"{field}:" in script or f"{field}," in script


# Machines


def cluster(place: Place) -> Any:
    """What the API says of the machines, once the engine that a look at them starts has answered."""

    def said() -> Any:
        return place.client.get("/api/v1/machines").json()["cluster"]

    return wait_for(said, "the machines")


def test_machines_are_listed_paired_and_steered(place: Place) -> None:
    assert place.client.get("/api/v1/machines").json() == {"cluster": None}
    (me,) = cluster(place)["machines"]
    assert me["me"]
    wrong = place.client.post("/api/v1/machines/pair", json={"address": "10.0.0.2:4000", "code": "000-000"})
    assert is_error(wrong, 503)
    assert "code is wrong" in wrong.text
    taken = place.client.post("/api/v1/machines/pair", json={"address": "10.0.0.2:4000", "code": "123-456"})
    other = taken.json()["id"]
    wait_for(lambda: len(cluster(place)["machines"]) == 2, "the new machine")
    changed = place.client.post(f"/api/v1/machines/{other}", json={"name": "cellar", "paused": True})
    assert changed.json() == {"id": other}
    assert place.engine.calls.count("set_member cellar None") == 1
    assert place.engine.calls.count("set_member None True") == 1
    assert place.client.post("/api/v1/machines/addresses", json={"address": "10.0.0.3:4000"}).status_code == 200
    assert place.client.post("/api/v1/machines/pairing", json={}).json()["code"] == "482-913"
    assert place.client.post("/api/v1/machines/pairing/close", json={}).status_code == 200
    assert place.client.post(f"/api/v1/machines/{other}/revoke", json={}).json() == {"id": other}
    wait_for(lambda: len(cluster(place)["machines"]) == 1, "the machine to be gone")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("pair", {"address": "10.0.0.2:4000"}, 400),
        ("pair", {"address": "", "code": "123-456"}, 400),
        ("pair", {"address": "a" * 301, "code": "123-456"}, 400),
        ("0" * 32, {"name": "x"}, 404),
        ("0" * 32 + "/revoke", {}, 404),
        ("0" * 32, {"name": ""}, 400),
    ],
)
def test_wrong_requests_about_machines_are_explained(
    place: Place, path: str, body: dict[str, Any], code: int
) -> None:
    cluster(place)
    assert is_error(place.client.post(f"/api/v1/machines/{path}", json=body), code)


def test_decisions_wake_the_hand_over(place: Place) -> None:
    cluster(place)
    place.review(events=[event(0, place.rows()[0])])
    wait_for(lambda: len(place.engine.decided()) == 1, "the decision in the log")


def test_a_removed_machine_begins_anew_with_what_is_unfinished_and_what_was_decided(place: Place) -> None:
    studio, run = runtime.current(), place.spec.run_id
    add_rows(place.store, [f"new text {number}" for number in range(5)], first=len(TEXTS))
    runs.plan(place.store, run, limit=None)
    studio.resume(run)
    place.review(events=[event(0, place.rows()[0])])
    wait_for(lambda: len(place.engine.rows(run)) == 5 and len(place.engine.decided()) == 1, "the first hand-over")
    studio.start_over()
    assert place.engine.author.startswith("0" * 31 + "9")
    wait_for(lambda: len(place.engine.rows(run)) == 5 and len(place.engine.decided()) == 1, "the second one")
    place.engine.work(run)
    wait_for(lambda: studio.progress()[run].state == "done", "the end of the run")
    (record,) = runs.list_runs(place.store)
    assert (record.rows, record.labeled_rows) == (45, 45)
