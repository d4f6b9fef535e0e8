"""The life of a session in Redis, with stand-ins for the store and the stages around it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from gateway import contest
from gateway.auth import Caller, Denied
from gateway.connection import Connection
from gateway.fix_message import encode_fields, frame
from gateway.session_events import LogonRequested, NeedOutLimit, ResendRequested, SessionRules
from gateway.session_keeper import SessionKeeper
from router.errors import Fenced, RedisUnavailable
from router.sessions import OnDisconnect, Opened, SentMessages, Taken
from tests.helpers import DEADLINE_S, eventually_async
from tests.unit.test_gateway_connection import TIME, World, message


class Store:
    """Sessions in memory: one account; ``sent_between`` waits at the incarnation's gate."""

    def __init__(self) -> None:
        self.answer: Opened | Taken = Opened(1, 1, 1, 1, 1_000, 0)
        self.on_disconnect: list[OnDisconnect] = []
        self.gone: list[bool] = []
        self.released: list[tuple[int, int, int, int]] = []
        self.limits: list[int] = []
        self.lost: list[int] = []
        self.fenced = False
        self.is_away = False
        self.gates: dict[int, asyncio.Event] = {}
        self.contested: list[int] = []
        self.confirmed: list[int] = []

    async def logon(
        self, account: int, *, reset: bool, on_disconnect: OnDisconnect
    ) -> Opened | Taken:
        if self.is_away:
            raise RedisUnavailable("no answer")
        self.on_disconnect.append(on_disconnect)
        if reset:
            self.answer = Opened(2, 2, 1, 1, 1_000, 0)
        return self.answer

    async def contest(self, account: int) -> None:
        self.contested.append(account)

    async def confirm(self, account: int) -> None:
        self.confirmed.append(account)

    async def release(
        self, account: int, epoch: int, *, dealt: int, next_out: int, is_gone: bool
    ) -> None:
        self._check()
        self.gone.append(is_gone)
        self.released.append((account, epoch, dealt, next_out))

    async def raise_limit(self, account: int, epoch: int, *, out_limit: int) -> int:
        self._check()
        self.limits.append(out_limit)
        return out_limit + 1_000

    async def renew(self, epochs: dict[int, int]) -> list[int]:
        if not epochs:
            raise RedisUnavailable("nobody to renew")
        return self.lost

    async def sent_between(
        self, account: int, number: int, *, begin: int, end: int
    ) -> AsyncIterator[SentMessages]:
        if number in self.gates:
            await self.gates[number].wait()
        fields = [(b"35", b"8"), (b"34", b"2"), (b"52", TIME), (b"58", b"%d" % number)]
        yield SentMessages(2, 2, frame(encode_fields(fields)))

    def _check(self) -> None:
        if self.fenced:
            raise Fenced("another gateway has it")


class Keeping:
    """A keeper around one connection, and the stages that it asks."""

    def __init__(self) -> None:
        self.world = World()
        self.store = Store()
        self.denied: Denied | None = None
        self.marked: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.keeper = SessionKeeper(
            self.store,
            self,
            self,
            self,
            rules=SessionRules(comp_id=b"SHARDEX"),
            max_sessions=1,
            now_ns=lambda: self.world.now_ns,
        )
        self.connection = self.world.connection
        self.connection.connection_made(self.world.transport)

    # What the keeper needs of others.

    async def check(self, logon: LogonRequested, caller: Caller) -> Denied | None:
        return self.denied

    async def pipeline(self, commands: object) -> Any:
        raise RedisUnavailable("no users here")

    async def admitted(self) -> None:
        await asyncio.sleep(0)

    async def stored(self, connection: Connection, up_to: int) -> None:
        await asyncio.sleep(0)

    def mark(self, account: int) -> None:
        self.marked.append(account)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    # What a test does.

    async def done(self) -> None:
        """Wait for all that was spawned; a failure of it is the test's."""
        while self.tasks:
            await self.tasks.pop()

    async def log_on(self, number: int = 1, *more: tuple[bytes, bytes]) -> None:
        login = ((b"98", b"0"), (b"108", b"30"), (b"553", b"u"), (b"554", b"p"))
        self.connection.data_received(message(number, b"A", *login, *more))
        self.keeper.logon(self.connection, self.take(LogonRequested))

    def take(self, kind: type) -> Any:
        (event,) = [one for one in self.world.host.events if type(one) is kind]
        self.world.host.events.remove(event)
        return event

    def texts(self) -> list[bytes]:
        """Return Text (58) of each message written."""
        return re.findall(rb"\x0158=([^\x01]+)", b"".join(self.world.transport.written))


@pytest.fixture
async def keeping() -> AsyncIterator[Keeping]:
    made = Keeping()
    yield made
    for task in made.tasks:
        task.cancel()
    made.connection.connection_lost(None)


async def test_accepted_logon_makes_the_session_active(keeping: Keeping) -> None:
    keeping.store.answer = Opened(4, 3, 1, 17, 1_016, 99)
    await keeping.log_on()
    await keeping.done()
    connection = keeping.connection
    assert keeping.keeper.active == {7: connection}
    assert (connection.epoch, connection.number, connection.cursor) == (4, 3, 99)
    assert keeping.world.transport.sent_types() == ["A"] and keeping.marked == [7]


@pytest.mark.parametrize("text", ["Wrong", None])
async def test_denied_logon_is_answered_with_its_text_or_not_at_all(
    keeping: Keeping, text: str | None
) -> None:
    keeping.denied = Denied(text)
    await keeping.log_on()
    await keeping.done()
    assert keeping.world.transport.sent_types() == ([] if text is None else ["5"])
    assert keeping.world.transport.closed and not keeping.keeper.active


@pytest.mark.parametrize("denied", [Denied("Wrong"), None])
async def test_logon_is_closed_without_a_word_where_no_number_is_known(
    keeping: Keeping, denied: Denied | None
) -> None:
    keeping.denied = denied
    keeping.store.is_away = True
    await keeping.log_on()
    await keeping.done()
    assert keeping.world.transport.sent_types() == []
    assert keeping.world.transport.closed and not keeping.keeper.active


async def test_refusing_logout_takes_the_next_number_and_leaves_the_logons_open(
    keeping: Keeping,
) -> None:
    keeping.denied = Denied("Wrong")
    keeping.store.answer = Opened(4, 3, 6, 17, 1_016, 99)
    await keeping.log_on(6)
    await keeping.done()
    assert b"\x0134=17\x01" in keeping.world.transport.written[-1]
    assert keeping.store.released == [(7, 4, 5, 18)]
    # Nobody has proved who it was: a client that is gone stays so.
    assert keeping.store.gone == [False]
    assert keeping.store.on_disconnect[-1] is OnDisconnect.UNCHANGED


@pytest.mark.parametrize("why", ["reset", "taken"])
async def test_refusing_logout_without_a_number_of_the_session_has_number_1(
    keeping: Keeping, why: str
) -> None:
    keeping.denied = Denied("Wrong")
    keeping.store.answer = (
        Taken("gateway-2", 900) if why == "taken" else Opened(4, 3, 1, 17, 1_016, 0)
    )
    await keeping.log_on(1, *(((b"141", b"Y"),) if why == "reset" else ()))
    await keeping.done()
    assert b"\x0134=1\x01" in keeping.world.transport.written[-1]
    assert not keeping.store.released


async def test_session_that_another_client_answers_for_is_closed_without_a_word(
    keeping: Keeping,
) -> None:
    keeping.store.answer = Taken("gateway-2", 60_000)
    await keeping.log_on()
    await eventually_async(lambda: keeping.store.contested == [7])
    keeping.keeper.contests.alive(7)
    await keeping.done()
    assert keeping.world.transport.closed and not keeping.world.transport.written


async def test_session_that_nobody_answers_for_is_closed_after_a_while(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "PROBE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(contest, "_SLACK_S", 0.01)
    keeping.store.answer = Taken("gateway-2", 1)
    await keeping.log_on()
    await keeping.done()
    assert keeping.world.transport.closed and not keeping.world.transport.written


async def test_session_is_asked_for_once_more_however_late_it_has_become(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def contested(account: int) -> None:
        # Said so late that no time is left, as by a process that stood still.
        keeping.store.answer = Opened(4, 3, 1, 17, 1_016, 99)

    monkeypatch.setattr(contest, "PROBE_TIMEOUT_S", 0)
    monkeypatch.setattr(contest, "_SLACK_S", 0)
    monkeypatch.setattr(keeping.store, "contest", contested)
    keeping.store.answer = Taken("gateway-2", 0)
    await keeping.log_on()
    await keeping.done()
    assert keeping.keeper.active == {7: keeping.connection}


async def test_session_whose_owner_is_gone_is_taken_over(keeping: Keeping) -> None:
    keeping.store.answer = Taken("gateway-2", 60_000)
    await keeping.log_on()
    await eventually_async(lambda: keeping.store.contested == [7])
    keeping.store.answer = Opened(4, 3, 1, 17, 1_016, 99)
    await keeping.done()
    assert keeping.keeper.active == {7: keeping.connection}


async def test_client_that_gives_up_waits_for_nothing(keeping: Keeping) -> None:
    keeping.store.answer = Taken("gateway-2", 60_000)
    await keeping.log_on()
    await eventually_async(lambda: keeping.store.contested == [7])
    keeping.connection.connection_lost(None)
    await keeping.done()
    assert not keeping.keeper.active


@pytest.mark.parametrize("answers", [True, False])
async def test_contested_client_is_asked_and_dropped_if_it_says_nothing(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(contest, "PROBE_TIMEOUT_S", DEADLINE_S if answers else 0.01)
    await keeping.log_on()
    await keeping.done()
    keeping.keeper.contests.contested(7)
    keeping.keeper.contests.contested(7)
    keeping.keeper.contests.contested(8)
    await eventually_async(lambda: keeping.world.transport.sent_types() == ["A", "1"])
    if answers:
        keeping.world.now_ns += 1
        keeping.connection.data_received(message(2, b"0"))
    await keeping.done()
    assert keeping.store.confirmed == ([7] if answers else [])
    assert keeping.world.transport.aborted == (not answers)


async def test_client_that_is_gone_before_the_decision_leaves_the_session_free(
    keeping: Keeping,
) -> None:
    await keeping.log_on()
    keeping.connection.connection_lost(None)
    await keeping.done()
    assert keeping.store.released == [(7, 1, 0, 1)] and not keeping.keeper.active


async def test_closed_session_is_released_where_it_stands(keeping: Keeping) -> None:
    await keeping.log_on()
    await keeping.done()
    keeping.connection.data_received(message(2, b"1", (b"112", b"x")))
    keeping.connection.connection_lost(None)
    keeping.keeper.closed(keeping.connection)
    await keeping.keeper.all_released()
    assert keeping.store.released == [(7, 1, 2, 3)] and not keeping.keeper.active
    assert keeping.store.gone == [True]


async def test_reset_drops_the_fetch_of_a_resend_that_is_under_way(keeping: Keeping) -> None:
    await keeping.log_on()
    await keeping.done()
    keeping.connection.session.send_application(b"8", b"58=x\x01", now_ns=keeping.world.now_ns)
    keeping.connection.settle()
    gates = keeping.store.gates
    gates.update({1: asyncio.Event(), 2: asyncio.Event()})
    keeping.connection.data_received(message(2, b"2", (b"7", b"1"), (b"16", b"0")))
    keeping.keeper.serve(keeping.connection, keeping.take(ResendRequested))
    await asyncio.sleep(0)
    old = keeping.tasks.pop()

    await keeping.log_on(1, (b"141", b"Y"))
    await keeping.done()
    assert keeping.connection.number == 2
    keeping.connection.session.send_application(b"8", b"58=y\x01", now_ns=keeping.world.now_ns)
    keeping.connection.settle()
    # The same range again, under the new numbers: what the old fetch brings would fit it.
    keeping.connection.data_received(message(2, b"2", (b"7", b"1"), (b"16", b"0")))
    keeping.keeper.serve(keeping.connection, keeping.take(ResendRequested))
    gates[1].set()
    await old
    gates[2].set()
    await keeping.done()
    assert keeping.texts() == [b"x", b"y", b"2"], "58 of a stored message is its incarnation"


async def test_reset_forgets_what_could_not_be_answered_before(keeping: Keeping) -> None:
    await keeping.log_on()
    await keeping.done()
    keeping.connection.unanswered_from = 2
    await keeping.log_on(1, (b"141", b"Y"))
    await keeping.done()
    assert keeping.connection.unanswered_from == 0
    assert keeping.store.released == [(7, 1, 1, 2)] and keeping.store.gone == [False]


async def test_reset_of_a_session_that_is_lost_ends_the_connection(keeping: Keeping) -> None:
    await keeping.log_on()
    await keeping.done()
    keeping.store.fenced = True
    await keeping.log_on(1, (b"141", b"Y"))
    await keeping.done()
    assert keeping.world.transport.closed


async def test_numbers_are_leased_until_there_are_enough(keeping: Keeping) -> None:
    await keeping.log_on()
    await keeping.done()
    keeping.connection.numbers_wanted = 2_500
    keeping.keeper.serve(keeping.connection, NeedOutLimit(1))
    keeping.keeper.lease_numbers(keeping.connection)
    await keeping.done()
    assert keeping.store.limits == [1_000, 2_000]
    assert keeping.connection.session.out_remaining == 2_999
    assert keeping.connection.numbers_wanted == 0


@pytest.mark.parametrize("finds_out", ["renewal", "lease"])
async def test_lost_session_is_dropped_without_a_word(keeping: Keeping, finds_out: str) -> None:
    await keeping.log_on()
    await keeping.done()
    if finds_out == "renewal":
        keeping.store.lost = [7]
        renewing = asyncio.create_task(keeping.keeper.run_renewals(0.001))
        await eventually_async(lambda: not keeping.keeper.active)
        renewing.cancel()
    else:
        keeping.store.fenced = True
        keeping.connection.numbers_wanted = 2_000
        keeping.keeper.lease_numbers(keeping.connection)
    await keeping.done()
    assert keeping.world.transport.aborted and keeping.connection.epoch == 0
    keeping.keeper.closed(keeping.connection)
    assert not keeping.store.released and not keeping.keeper.active
