"""Play a flow over FIX into a venue, record what it says, and compare.

One session, one account, pipelined: requests go out without waiting for answers, up to a window of
rows in flight. The end is a status request, whose answer comes behind everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ssl import SSLContext

import msgspec

from engine.enums import SelfTradePrevention, Side
from gateway.fix_message import FixMessage
from gateway.fix_time import UtcTimestampWriter
from ops.errors import FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator, Phase
from ops.fix_orders import OrderBodies
from ops.flow import DepthRow, ExpectedRow, FlowRow
from ops.flow_check import FlowAnswers, Market, Mismatch, Refusal, depth_mismatches
from ops.flow_recorder import FlowRecorder
from ops.flow_requests import FlowRequests

WINDOW_ROWS = 2_000
"""Rows in flight: far below `gateway.orders_in_flight_max`, far above what one round trip needs."""

BATCH_ROWS = 200
"""Rows of one write."""

STALL_TIMEOUT_S = 30.0
"""No answer for so long ends the replay."""

GIVE_UP_TIMEOUT_S = 5.0
"""How long a replay that is interrupted takes to cancel what rests; then it stays in the book."""

_POLL_S = 0.05
_NS_PER_S = 1_000_000_000


class Target(msgspec.Struct, frozen=True):
    """Where to play.

    Args:
        host, port: a gateway.
        identity: the session; its MsgSeqNums are reset to 1.
        redis_url: where the public feed is.
        symbol, tick_size, lot_size: what to trade; the flow counts in its ticks and lots.
        tls: to speak TLS with the gateway; None: plain text.
    """

    host: str
    port: int
    identity: Identity
    redis_url: str
    symbol: str
    tick_size: str
    lot_size: str
    tls: SSLContext | None = None


class Truth(msgspec.Struct, frozen=True):
    """What to compare with; nothing in it: only refusals and trades are counted."""

    expected: Sequence[ExpectedRow] = ()
    depth: Sequence[DepthRow] = ()

    @property
    def needs_market(self) -> bool:
        """Whether the public feed has to be followed."""
        return bool(self.depth) or any(row.quote is not None for row in self.expected)


class ReplayResult(msgspec.Struct, frozen=True):
    """What came of it. ``elapsed_s``: from the first request to the last answer."""

    symbol: str
    rows: int
    elapsed_s: float
    trades: int
    rows_checked: int
    quotes_checked: int
    depths_checked: int
    refusals: list[Refusal]
    mismatches: list[Mismatch]

    @property
    def is_right(self) -> bool:
        """Whether nothing was refused and nothing differs."""
        return not self.refusals and not self.mismatches


async def replay(
    target: Target,
    rows: Sequence[FlowRow],
    truth: Truth,
    *,
    speed: float | None,
    on_progress: Callable[[int], None],
) -> ReplayResult:
    """Play a flow and compare; the book is empty afterwards, also where it is cancelled.

    Args:
        target: where.
        rows: the flow.
        truth: what to compare with.
        speed: times the recorded pace; None: as fast as the venue takes it.
        on_progress: called with the number of rows answered.

    Raises:
        CommandFailed: orders of others, or of an earlier run, rest in the symbol.
        FixClientFailed: the session could not be opened, or ended.
        RedisUnavailable: the public feed is away.
    """
    run = b"f%x" % time.time_ns()
    bodies = OrderBodies(
        target.symbol,
        tick_size=target.tick_size,
        lot_size=target.lot_size,
        stp=SelfTradePrevention.NONE,
    )
    answers = FlowAnswers(rows, run=run, bodies=bodies)
    player = _Player(target, answers, FlowRequests(bodies, run=run), bodies)
    recorder = FlowRecorder(target.redis_url, target.symbol) if truth.needs_market else None
    try:
        if recorder is not None:
            await recorder.open()
        async with player.client:
            await player.client.connect(target.host, target.port, reset=True)
            started_s = time.monotonic()
            try:
                await player.play(rows, speed=speed, on_progress=on_progress)
            except asyncio.CancelledError:
                await player.give_up()
                raise
            await player.wait_for_barrier()
            elapsed_s = time.monotonic() - started_s
            last_input = answers.last_input
            if recorder is not None:
                await recorder.wait_for(last_input)
            await player.cancel_rest()
        return _result(target, rows, truth, answers, bodies, recorder, elapsed_s)
    finally:
        if recorder is not None:
            await recorder.close()


def _result(
    target: Target,
    rows: Sequence[FlowRow],
    truth: Truth,
    answers: FlowAnswers,
    bodies: OrderBodies,
    recorder: FlowRecorder | None,
    elapsed_s: float,
) -> ReplayResult:
    expected = [row for row in truth.expected if row.seq <= len(rows)]
    depth = [row for row in truth.depth if row.seq <= len(rows)]
    market = None
    if recorder is not None:
        inputs = [answers.input_seqs[row.seq] for row in depth if row.seq in answers.input_seqs]
        levels = max((max(len(row.bids), len(row.asks)) for row in depth), default=0)
        market = Market(
            recorder.snapshot, recorder.messages, depth_at=inputs, levels=levels, bodies=bodies
        )
    mismatches = answers.mismatches(expected, market)
    if market is not None:
        mismatches += depth_mismatches(depth, market, answers.input_seqs)
        if market.gaps:
            mismatches.append(Mismatch(0, "feed", "every message", f"{market.gaps} gaps"))
    return ReplayResult(
        symbol=target.symbol,
        rows=len(rows),
        elapsed_s=elapsed_s,
        trades=answers.trades,
        rows_checked=len(expected),
        quotes_checked=sum(row.quote is not None for row in expected) if market else 0,
        depths_checked=len(depth) if market else 0,
        refusals=answers.refusals,
        mismatches=mismatches,
    )


class _Player:
    """Sends rows and waits for their answers."""

    def __init__(
        self, target: Target, answers: FlowAnswers, requests: FlowRequests, bodies: OrderBodies
    ) -> None:
        self._answers = answers
        self._requests = requests
        self._bodies = bodies
        self._times = UtcTimestampWriter()
        self._heard = asyncio.Event()
        self.client = FixClient(
            Initiator(target.identity), on_messages=self._on_messages, tls=target.tls
        )

    def _on_messages(self, messages: list[FixMessage]) -> None:
        for message in messages:
            self._answers.receive(message)
        self._heard.set()

    async def play(
        self, rows: Sequence[FlowRow], *, speed: float | None, on_progress: Callable[[int], None]
    ) -> None:
        """Send all rows and wait until each is answered."""
        sent = 0
        started_s = time.monotonic()
        while sent < len(rows):
            on_progress(self._answers.answered)
            room = min(WINDOW_ROWS - (sent - self._answers.answered), BATCH_ROWS)
            if room <= 0:
                await self._hear()
                continue
            until_ns = None
            if speed is not None:
                until_ns = rows[0].ts_ns + int((time.monotonic() - started_s) * speed * _NS_PER_S)
                if rows[sent].ts_ns > until_ns:
                    wait_s = (rows[sent].ts_ns - until_ns) / speed / _NS_PER_S
                    await asyncio.sleep(min(wait_s, _POLL_S))
                    self._check_alive()
                    continue
            sent += self._send(rows[sent : sent + room], until_ns)
            await self.client.drained()
            await asyncio.sleep(0)
            self._check_alive()
        while self._answers.answered < len(rows):
            on_progress(self._answers.answered)
            await self._hear()
        on_progress(self._answers.answered)

    def _send(self, rows: Sequence[FlowRow], until_ns: int | None) -> int:
        now = self._times.write(time.time_ns())
        count = 0
        for row in rows:
            if until_ns is not None and row.ts_ns > until_ns:
                break
            for request in self._requests.requests(row, time=now):
                self.client.send(*request)
            count += 1
        self.client.flush()
        return count

    async def wait_for_barrier(self) -> None:
        """Wait until everything that was sent has had its effect and all its reports are here."""
        self._answers.barrier = False
        self.client.send(*self._bodies.status(self._answers.barrier_id, Side.BUY))
        self.client.flush()
        while not self._answers.barrier:
            await self._hear()

    async def cancel_rest(self) -> None:
        """Leave an empty book."""
        now = self._times.write(time.time_ns())
        for request in self._requests.cancel_rest(time=now):
            self.client.send(*request)
        await self.wait_for_barrier()

    async def give_up(self) -> None:
        """Leave an empty book, if the venue still answers in time."""
        with suppress(FixClientFailed, TimeoutError):
            async with asyncio.timeout(GIVE_UP_TIMEOUT_S):
                await self.wait_for_barrier()
                await self.cancel_rest()

    async def _hear(self) -> None:
        self._heard.clear()
        self._check_alive()
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                lost = asyncio.create_task(self.client.wait_lost())
                heard = asyncio.create_task(self._heard.wait())
                try:
                    await asyncio.wait((lost, heard), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    lost.cancel()
                    heard.cancel()
        except TimeoutError as error:
            raise FixClientFailed(f"no answer for {STALL_TIMEOUT_S:g} s") from error

    def _check_alive(self) -> None:
        if self.client.initiator.phase is not Phase.ACTIVE:
            raise FixClientFailed(f"the session ended: {self.client.initiator.reason}")
