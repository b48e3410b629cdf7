from __future__ import annotations

import threading

import pytest

from studio.jobs import Asked, Jobs, Report
from workspace.errors import IntakeError

LONG = 30.0


def test_a_job_reports_and_ends_with_its_result() -> None:
    def work(report: Report, _cancelled: Asked) -> int:
        report(0.5)
        return 42

    jobs = Jobs()
    job = jobs.start("load", "Loading", work)
    assert job.wait(LONG)
    assert (job.state, job.fraction, job.result, job.error) == ("done", 1.0, 42, None)


def test_a_second_start_gives_the_job_that_runs() -> None:
    go_on = threading.Event()
    jobs = Jobs()
    first = jobs.start("load", "Loading", lambda _report, _cancelled: go_on.wait(LONG))
    assert jobs.start("load", "Loading again", lambda _report, _cancelled: True) is first
    go_on.set()
    assert first.wait(LONG)
    assert jobs.start("load", "Loading again", lambda _report, _cancelled: True) is not first


def test_cancelling_is_asked_of_the_work() -> None:
    asked = threading.Event()

    def work(_report: Report, cancelled: Asked) -> None:
        asked.set()
        while not cancelled():
            pass
        raise IntakeError("Cancelled.", "Nothing was added.")

    jobs = Jobs()
    job = jobs.start("load", "Loading", work)
    assert asked.wait(LONG)
    job.cancel()
    assert job.wait(LONG)
    assert job.state == "cancelled"
    assert job.error is not None


@pytest.mark.parametrize("trouble", [IntakeError("No such file.", ""), ZeroDivisionError("oops")])
def test_whatever_goes_wrong_becomes_a_sentence(trouble: Exception) -> None:
    def work(_report: Report, _cancelled: Asked) -> None:
        raise trouble

    job = Jobs().start("load", "Loading", work)
    assert job.wait(LONG)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.title


def test_what_comes_afterwards_is_done_before_the_end_is_told() -> None:
    go_on = threading.Event()
    done: list[str] = []
    job = Jobs().start("load", "Loading", lambda _report, _cancelled: go_on.wait(LONG))
    job.afterwards(lambda: done.append("first"))
    go_on.set()
    assert job.wait(LONG)
    assert done == ["first"]
    job.afterwards(lambda: done.append("late"))
    assert done == ["first", "late"]


def test_closing_waits_for_the_work() -> None:
    jobs = Jobs()

    def work(_report: Report, cancelled: Asked) -> str:
        while not cancelled():
            pass
        return "stopped"

    job = jobs.start("load", "Loading", work)
    jobs.close()
    assert job.state == "done"
    assert job.result == "stopped"
