"""How requests are sent: how many at a time, what is tried again, what it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.chat import Fault, Message, Reply, Request
from engine.models.spending import Purse, spent
from engine.models.traffic import LONGEST_WAIT, Lanes, Traffic
from workspace.errors import BudgetReached
from workspace.facts import Settings

ASKED = Request((Message("user", "x" * 100),), max_tokens=10)
OK = Reply("ok", 50, 5)


class Scripted:
    """A chat that answers what it is told to, one after the other, and keeps a clock of its own."""

    place = "The server"

    def __init__(self, *outcomes: Reply | Fault) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0
        self.now = 0.0
        self.pauses: list[float] = []

    async def say(self, request: Request) -> Reply:
        self.asked += 1
        await asyncio.sleep(0)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Fault):
            raise outcome
        return outcome

    def adapt(self) -> bool:
        return False

    async def close(self) -> None:
        pass

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def traffic(self, folder: Path, lanes: Lanes | None = None, **settings: float | None) -> Traffic:
        made = Settings(**settings)  # type: ignore[arg-type]
        return Traffic(
            self,
            made,
            lanes or Lanes(1),
            Purse(folder, "run", made),
            pause=self.pause,
            clock=lambda: self.now,
            draw=lambda: 1.0,
        )


def busy(seconds: float | None = None) -> Fault:
    return Fault("busy", "come back", seconds)


def test_what_may_pass_is_tried_again_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    chat = Scripted(busy(), Fault("failed", "500"), Fault("lost", "reset"), OK)
    assert asyncio.run(chat.traffic(tmp_path).send(ASKED)) == OK
    assert chat.pauses == pytest.approx([0.001, 0.002, 0.004])


def test_the_server_says_how_long_to_wait_and_everybody_does(tmp_path: Path) -> None:
    chat = Scripted(busy(7.0), OK, OK)
    traffic = chat.traffic(tmp_path)
    asyncio.run(traffic.send(ASKED))
    assert chat.now >= 7.0
    assert sum(chat.pauses) == pytest.approx(7.0)


def test_the_last_fault_is_told_when_the_tries_are_used_up(tmp_path: Path) -> None:
    chat = Scripted(*[busy() for _ in range(3)])
    with pytest.raises(Fault, match="come back"):
        asyncio.run(chat.traffic(tmp_path, retries=2).send(ASKED))
    assert chat.asked == 3


@pytest.mark.parametrize("fault", [Fault("refused", "no"), Fault("forbidden", "no"), busy(LONGEST_WAIT + 1)])
def test_what_will_not_pass_is_not_tried_again(tmp_path: Path, fault: Fault) -> None:
    chat = Scripted(fault)
    with pytest.raises(Fault):
        asyncio.run(chat.traffic(tmp_path).send(ASKED))
    assert chat.asked == 1


def test_a_reply_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    class Silent(Scripted):
        async def say(self, request: Request) -> Reply:
            self.asked += 1
            await asyncio.Event().wait()
            raise AssertionError

    chat = Silent()
    with pytest.raises(Fault, match="no reply within"):
        asyncio.run(chat.traffic(tmp_path, timeout=0.01, retries=1).send(ASKED))
    assert chat.asked == 2


# -- lanes --------------------------------------------------------------------------------------------------


def through(lanes: Lanes, seconds: Callable[[int], float], count: int) -> None:
    """Let `count` requests pass, each as long as the number of those under way says."""

    async def run() -> None:
        numbers: list[int] = []
        for _ in range(count):
            while lanes.busy < lanes.limit:
                numbers.append(await lanes.enter())
            lanes.leave(numbers.pop(0), seconds(lanes.busy + 1))
        for number in numbers:
            lanes.leave(number, seconds(1))

    asyncio.run(run())


def test_a_server_that_computes_together_gets_more_and_more() -> None:
    lanes = Lanes(first=1, most=16)
    through(lanes, lambda at_once: 1.0 + 0.01 * at_once, 400)
    assert lanes.limit == 16


def test_a_server_that_works_one_by_one_gets_few() -> None:
    lanes = Lanes(first=1, most=64)
    through(lanes, lambda at_once: 1.0 * at_once, 400)
    assert lanes.limit <= 4


def test_longer_texts_are_no_reason_to_stay_slow() -> None:
    lanes = Lanes(first=1, most=16)
    through(lanes, lambda at_once: 1.0 + 0.01 * at_once, 400)
    through(lanes, lambda at_once: 10.0 + 0.1 * at_once, 800)
    assert lanes.limit == 16


def test_too_busy_halves_once_for_all_that_were_under_way() -> None:
    async def run() -> None:
        lanes = Lanes(first=16, most=64)
        numbers = [await lanes.enter() for _ in range(16)]
        for number in numbers:
            lanes.leave(number, 0.1, overloaded=True)
        assert lanes.limit == 8
        lanes.leave(await lanes.enter(), 0.1, overloaded=True)
        assert lanes.limit == 4

    asyncio.run(run())


def test_a_chosen_number_stays() -> None:
    lanes = Lanes(3, first=1)
    through(lanes, lambda _: 1.0, 50)
    assert lanes.limit == 3


@given(st.integers(1, 8), st.lists(st.sampled_from(["ok", "busy", "cancel"]), max_size=40))
def test_never_more_at_a_time_than_allowed_and_nobody_waits_forever(first: int, fates: list[str]) -> None:
    async def run() -> None:
        lanes = Lanes(first=first, most=8)
        finished = 0

        async def one(fate: str) -> None:
            nonlocal finished
            number = await lanes.enter()
            assert 0 < lanes.busy <= 8
            await asyncio.sleep(0)
            lanes.leave(number, 0.1, overloaded=fate == "busy")
            finished += 1

        tasks = [asyncio.ensure_future(one(fate)) for fate in fates]
        await asyncio.sleep(0)
        cancelled = [
            task for task, fate in zip(tasks, fates, strict=True) if fate == "cancel" and not lanes.busy > 8
        ]
        waiting = tasks[first:]
        for task in cancelled:
            if task in waiting:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert lanes.busy == 0
        assert finished >= len(fates) - len(cancelled)

    asyncio.run(run())


# -- money --------------------------------------------------------------------------------------------------

PRICE = 1_000_000.0  # one a token


def sending(chat: Scripted, folder: Path, count: int, **settings: float | None) -> None:
    traffic = chat.traffic(folder, Lanes(4), price_in=PRICE, price_out=PRICE, **settings)

    async def run() -> None:
        outcomes = await asyncio.gather(*[traffic.send(ASKED) for _ in range(count)], return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    asyncio.run(run())


def test_what_was_spent_is_what_the_server_counted(tmp_path: Path) -> None:
    sending(Scripted(OK, busy(), OK), tmp_path, 2)
    assert spent(tmp_path, "run") == pytest.approx(110)
    assert spent(tmp_path, "another") == 0


def test_no_request_goes_over_the_budget_and_a_new_start_remembers(tmp_path: Path) -> None:
    most = ASKED.most_tokens() + ASKED.max_tokens
    chat = Scripted(*[OK] * 100)
    with pytest.raises(BudgetReached, match="budget"):
        sending(chat, tmp_path, 20, budget=600.0)
    assert 600 - most < spent(tmp_path, "run") <= 600
    asked = chat.asked
    with pytest.raises(BudgetReached):
        sending(chat, tmp_path, 1, budget=600.0)
    assert chat.asked == asked  # not even tried
    sending(chat, tmp_path, 1, budget=2000.0)
    assert chat.asked == asked + 1


def test_a_request_that_does_not_come_back_is_counted_at_its_most(tmp_path: Path) -> None:
    """As after a power failure: what was set aside stays spent."""

    async def run() -> None:
        purse = Purse(tmp_path, "run", Settings(price_in=PRICE, price_out=PRICE))
        await purse.reserve(ASKED)

    asyncio.run(run())
    assert spent(tmp_path, "run") == ASKED.most_tokens() + ASKED.max_tokens


def test_a_request_that_is_not_waited_for_counts_at_its_most_and_blocks_nobody(tmp_path: Path) -> None:
    class Silent(Scripted):
        async def say(self, request: Request) -> Reply:
            self.asked += 1
            if self.asked == 1:
                await asyncio.Event().wait()
            return OK

    most = ASKED.most_tokens() + ASKED.max_tokens

    async def run() -> None:
        traffic = Silent().traffic(tmp_path, price_in=PRICE, price_out=PRICE, budget=2.0 * most)
        left = asyncio.ensure_future(traffic.send(ASKED))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert await asyncio.wait_for(traffic.send(ASKED), 10) == OK
        with pytest.raises(BudgetReached):
            await asyncio.wait_for(traffic.send(ASKED), 10)
        assert traffic.lanes.busy == 0

    asyncio.run(run())
    assert spent(tmp_path, "run") == pytest.approx(most + 55)


def test_a_reply_that_tells_no_tokens_costs_the_most_it_could(tmp_path: Path) -> None:
    sending(Scripted(Reply("ok", -1, -1)), tmp_path, 1)
    assert spent(tmp_path, "run") == ASKED.most_tokens() + ASKED.max_tokens


def test_torn_lines_are_left_out_and_long_files_become_short(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("1.0\nx\nnan\n" + "0.5\n-0.5\n" * 10_000 + "2.0\n3.")
    assert spent(tmp_path, "run") == 6.0
    purse = Purse(tmp_path, "run", Settings(price_in=PRICE, price_out=PRICE))
    assert purse.spent == 6.0
    assert (tmp_path / "run").read_text() == "6.0\n"
    purse.close()
    purse.close()


def test_without_prices_nothing_is_written(tmp_path: Path) -> None:
    chat = Scripted(OK)
    asyncio.run(chat.traffic(tmp_path / "none", budget=0.0).send(ASKED))
    assert not (tmp_path / "none").exists()


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10)), max_size=30), st.integers(100, 3000))
@settings(max_examples=25)
def test_the_budget_holds_whatever_the_server_counts(
    tmp_path_factory: pytest.TempPathFactory, counts: Sequence[tuple[int, int]], budget: int
) -> None:
    folder = tmp_path_factory.mktemp("purse")
    chat = Scripted(*[Reply("ok", min(one, ASKED.most_tokens()), other) for one, other in counts])
    try:
        sending(chat, folder, len(counts), budget=float(budget))
    except BudgetReached:
        pass
    else:
        assert chat.asked == len(counts)
    assert spent(folder, "run") <= budget
