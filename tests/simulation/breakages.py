"""Deliberate faults: each must be found by a checker, in some world of a few.

A fault is a piece of a script that is replaced, or a piece of production code that is, for as long
as the world lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec

from engine import runner
from engine.book import LimitBook
from engine.recovery import restore
from engine.settlement import Settlement
from engine.snapshot_keeper import SnapshotKeeper
from router.commit import Committer

if TYPE_CHECKING:
    from tests.simulation.plan import Happening, Plan
    from tests.simulation.world import World

Install = Callable[["World"], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Breakage:
    """One fault.

    Attributes:
        name: what is broken.
        shows_as: pieces of the complaints of those who must find it.
        replaced: pieces of the Lua scripts: the script's name, old, new.
        install: breaks something else while a world lasts.
        may_show: whether a plan has at all what the fault needs; worlds without it show nothing.
    """

    name: str
    shows_as: tuple[str, ...]
    replaced: tuple[tuple[str, str, str], ...] = ()
    install: Install = lambda world: nullcontext()
    may_show: Callable[[Plan], bool] = lambda plan: True

    def change(self, script: str, source: bytes) -> bytes:
        """Return the source to run instead of a script's."""
        for name, old, new in self.replaced:
            if name == script:
                assert old.encode() in source, f"{script}.lua does not have {old!r} any more"
                source = source.replace(old.encode(), new.encode())
        return source


def _journal_drops(world: World) -> AbstractContextManager[Any]:
    world.disk.drops = True
    return nullcontext()


def _published_is_dropped(world: World) -> AbstractContextManager[Any]:
    # Only a subscriber that does not look for gaps would be content with that.
    world.redis.drop_published = lambda channel: (
        channel.startswith(b"md:") and world.choose.random() < 0.3
    )
    return mock.patch("marketdata.replica.MarketReplica.lose", lambda replica: None)


def _wake_ups_are_dropped(world: World) -> AbstractContextManager[Any]:
    world.redis.drop_published = lambda channel: channel == b"wake"

    async def no_sweeps(reporter: Any, interval_s: float) -> None:
        return

    return mock.patch("gateway.reporter.Reporter.run_sweeps", no_sweeps)


def _newest_first(world: World) -> AbstractContextManager[Any]:
    """Give a price's queue the wrong end."""

    def rest(book: Any, side: Any, price_ticks: int, order: Any) -> None:
        sound(book, side, price_ticks, order)
        level = order.level
        if level.head is not order:
            order.prev.next, level.tail = None, order.prev
            order.prev, order.next, level.head.prev = None, level.head, order
            level.head = order

    sound = LimitBook.rest
    return mock.patch.object(LimitBook, "rest", rest)


def _snapshot_ahead(world: World) -> AbstractContextManager[Any]:
    async def at_once(keeper: Any, positions: Any) -> None:
        return

    restores = mock.patch("ops.engine_process.restore", _restore_whatever_is_there)
    waits = mock.patch.object(SnapshotKeeper, "_until_passed", at_once)
    return _both(waits, restores)


def _restore_whatever_is_there(store: Any, at_most: Any) -> Any:
    return restore(store, dict.fromkeys(at_most, 1 << 60))


def _both(*patches: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    for patch in patches:
        stack.enter_context(patch)
    return stack


def _clock_in_outputs(world: World) -> AbstractContextManager[Any]:
    """Make outputs depend on when they are made."""

    def encode(applied: Any) -> Settlement:
        settlement = sound(applied)
        if world.loop.time_ns() // 1_000_000 % 16 == 0:
            return msgspec.structs.replace(settlement, event=settlement.event + b"\xc0")
        return settlement

    sound = runner.encode_settlement
    return mock.patch.object(runner, "encode_settlement", encode)


def _acknowledged_before_commit(world: World) -> AbstractContextManager[Any]:
    """Say that a batch is committed, and commit it later: what a crash makes of it is lost."""

    async def commit(committer: Any, batch: Any) -> None:
        if world.choose.random() > 0.2:
            await sound(committer, batch)

    sound = Committer.commit
    return mock.patch.object(Committer, "commit", commit)


def _time_stands_still(world: World) -> AbstractContextManager[Any]:
    async def look(ticker: Any) -> int:
        return 0

    return mock.patch("router.ticks.Ticker.look", look)


def _kills_engines_amid_snapshots(plan: Plan) -> bool:
    killed = {*plan.kills_at_request, *(one.target for one in plan.happenings if _kills(one))}
    return (
        plan.snapshot_interval_s < 0.1
        and plan.delay_max_s >= 0.001
        and not killed.isdisjoint(plan.engines)
    )


def _kills(happening: Happening) -> bool:
    return happening.kind in ("kill", "power")


def _clients_leave(plan: Plan) -> bool:
    kinds = {one.kind for one in plan.happenings}
    return any(plan.graces_s.values()) and "client_leave" in kinds


def _streams_stay_in_work(plan: Plan) -> bool:
    return plan.delay_max_s >= 0.01 and plan.messages >= 16 and len(plan.shards[0]) > 1


_FENCE = "if lease[1] ~= head[2] or tonumber(lease[2]) ~= head[3] then"
_REPORT = "call('XADD', outbox[account], format('%d-0', number), 'e', ARGV[report + i])"

SOUND = Breakage("nothing", ())
POSITIONS_FIRST = Breakage(
    "writer-position-outside-its-transaction",
    ("table ", "WriteFailed"),
    may_show=lambda plan: plan.writer and bool(plan.happenings or plan.kills_at_request),
)

_ALL = (
    SOUND,
    POSITIONS_FIRST,
    Breakage(
        "commit-without-fence",
        ("committed, but the lease is",),
        (("settle", _FENCE, "if false then"), ("publish", _FENCE, "if false then")),
    ),
    Breakage(
        "settle-without-guard",
        ("would overdraw", "negative balance", "not a first answer"),
        (
            ("settle", "if seq > settled[s] then", "if true then"),
            ("settle", "if seq ~= settled[s] + 1 then", "if false then"),
        ),
    ),
    Breakage(
        "message-dealt-with-twice",
        ("not a first answer", "each_message_takes_effect_once"),
        (("admit", "number <= dealt[account]", "false"),),
    ),
    Breakage(
        "reservation-not-taken-back",
        ("negative balance",),
        (("admit", "call('HINCRBY', key, asset .. ':a', amount)\n", ""),),
    ),
    Breakage(
        "money-is-made",
        ("money is not conserved",),
        (("settle", "meta[i + 1], meta[i + 2])", "meta[i + 1], (meta[i + 2]:gsub('^-', '')))"),),
    ),
    Breakage(
        "money-to-another-account",
        ("balances_follow", "would overdraw"),
        (("settle", "try('HINCRBY', bal[meta[i]]", "try('HINCRBY', bal[1]"),),
    ),
    Breakage(
        "done-order-left-open",
        ("open_orders_are_those_of_the_book",),
        (("settle", "removed[#removed + 1] = field", ""),),
    ),
    Breakage(
        "report-written-twice",
        ("out of order", "not a first answer", "each_report_is_told_once"),
        (("settle", _REPORT, f"{_REPORT} number = next_number(account) {_REPORT}"),),
    ),
    Breakage("journal-drops", ("journals_hold_every_command",), install=_journal_drops),
    Breakage(
        "market-data-lost-unnoticed", ("replicas_are_the_book",), install=_published_is_dropped
    ),
    Breakage("wake-up-lost-without-sweep", ("no rest",), install=_wake_ups_are_dropped),
    Breakage("newest-order-first", ("book_is_the_naive_book",), install=_newest_first),
    Breakage(
        "snapshot-ahead-of-settle",
        ("StreamGap",),
        install=_snapshot_ahead,
        may_show=_kills_engines_amid_snapshots,
    ),
    Breakage(
        "clock-in-outputs",
        ("events_are_those_of_a_clean_run",),
        install=_clock_in_outputs,
    ),
    Breakage("standby-differs", ("OutputDiffers",), install=_clock_in_outputs),
    Breakage("ticks-are-not-made", ("something is due in",), install=_time_stands_still),
    Breakage(
        "mass-cancel-without-streams-in-work",
        ("mass_cancels_go_everywhere",),
        (("admit", "or tonumber(redis.call('HGET', 'settled', symbol)) ~= seq", ""),),
        may_show=_streams_stay_in_work,
    ),
    Breakage(
        "gone-client-found-again",
        ("found gone again",),
        (("session_disconnect", "call('ZREM', 'disconnects', account)", ""),),
        may_show=_clients_leave,
    ),
    Breakage(
        "phase-changed-twice",
        ("each_decision_is_in_the_streams",),
        (("set_phase", "if placed then", "if false then"),),
    ),
    Breakage("acknowledged-before-commit", ("StreamGap",), install=_acknowledged_before_commit),
)
BREAKAGES = {one.name: one for one in _ALL}
"""By name; the first is none."""
