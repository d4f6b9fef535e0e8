"""Give a Redis that took over what it has lost of a shard, from the shard's journal.

The journal is replayed from its first command. What the streams lack is put back in the order in
which it once came, by stamp: ledger entries with their effect, commands with the money that they
record. Behind each command its outcome is committed, because what is bought next may have been
paid out of it; the engine would do so later, and its outcomes are the same bytes. Money that is
not there for one stream may come out of another, so a stream that lacks it waits for the others.

Idempotent entry by entry: after a stop, whatever the reason, it goes on where it was. Meanwhile the
shard's lease is held under an owner that ``settle`` and ``publish`` take without a cleared server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from engine.commands import (
    Command,
    DefineSymbol,
    NewOrder,
    ReplaceOrder,
    SetPhase,
    decode_command,
)
from engine.errors import DecodeError
from engine.instrument import SymbolRules
from engine.journal import Record
from engine.journal_keys import LEDGER, skipped_symbol
from engine.ledger_entries import (
    Deposited,
    LedgerEntry,
    PasswordChanged,
    UserChanged,
    UserCreated,
    UserDisabled,
    Withdrawn,
    decode_ledger_entry,
)
from engine.limits import COMMIT_BATCH_MAX
from engine.settlement import Settlement, encode_settlement
from engine.shard import Shard as MatchingShard
from router import keys
from router.commit import Committer
from router.dense_ids import last_entry, last_number
from router.errors import Fenced, HistoryDiffers, HomeMismatch, StreamGap
from router.homes import Home
from router.lease import Lease
from router.redis_client import RedisLink
from router.scripts import Script

_COMMAND = Script("repair_command")
_LEDGER = Script("repair_ledger", before=("user_field",))

OWNER_PREFIX = "repair:"
"""Of the owner of the lease that a repair holds (settle.lua, publish.lua)."""


class Lost(msgspec.Struct, frozen=True):
    """What a stream lacks.

    Attributes:
        key: symbol, or ``ledger``.
        record: as the journal has it.
        content: decoded; None where a command's bytes are none.
        asset, amount: what has to be available for it, in the asset's smallest unit: what a command
            reserves, or what is withdrawn; '' and 0: nothing.
    """

    key: str
    record: Record
    content: Command | LedgerEntry | None
    asset: str = ""
    amount: int = 0


class Short(msgspec.Struct, frozen=True):
    """A lost entry that cannot be put back: the account has only so much available."""

    lost: Lost
    available: int


class Found(msgspec.Struct, frozen=True):
    """What a look at journal and streams has found.

    Attributes:
        lost: by stamp.
        outcomes: symbol → seq → outcome that is not committed.
        skips: symbol → seq → text, of skips that Redis lacks.
    """

    lost: list[Lost]
    outcomes: dict[str, dict[int, Settlement]]
    skips: dict[str, dict[int, str]]


class Repair:
    """One shard's.

    Args:
        link: accounts database.
        lease: of the shard, its owner beginning with OWNER_PREFIX; to be acquired before ``run``.
        homes: of the shard's symbols.
        with_ledger: whether the shard's engines journal the ledger.
    """

    def __init__(
        self, link: RedisLink, lease: Lease, homes: Mapping[str, Home], *, with_ledger: bool
    ) -> None:
        assert lease.owner.startswith(OWNER_PREFIX), "Invariant: a repair says what it is"
        self._link = link
        self._lease = lease
        self._homes = homes
        self._db = next(iter(homes.values())).db
        self._with_ledger = with_ledger
        self._committer = Committer(link, lease, homes)

    async def look(self, records: Callable[[], Iterable[Record]]) -> Found:
        """Compare the journal with the streams; change nothing.

        Args:
            records: reads the whole journal, from the first command of each symbol on.

        Raises:
            HistoryDiffers: a stream has another entry than the journal.
            StreamGap: the journal has not all records of a stream from the first on.
            RedisUnavailable: no reply.
        """
        ends = await self._ends()
        positions = await self._committer.positions()
        committed = {symbol: min(p.settled, p.published) for symbol, p in positions.items()}
        skips = {
            (symbol, record.seq): record
            for record in records()
            if (symbol := skipped_symbol(record.key)) in self._homes and symbol is not None
        }
        replay = _Replay(ends, committed, {at: r.payload.decode() for at, r in skips.items()})
        for record in records():
            if record.key in ends:
                replay.take(record)
        for key, record in replay.common.items():
            await self._check_common(key, record)
        lost = sorted(replay.lost, key=lambda one: (one.record.ts_ns, one.key != LEDGER))
        return Found(lost, replay.outcomes, await self._lost_skips(skips))

    async def run(self, found: Found, *, on_done: Callable[[Lost], None]) -> list[Short]:
        """Put back what was found to be lost; return what could not be.

        Args:
            on_done: told of each entry that stands in its stream now.

        Raises:
            Fenced: somebody else has the lease now; what was put back stays.
            RedisUnavailable, OutOfMemory: likewise; run it again.
            HomeMismatch, HistoryDiffers, StreamGap: the streams are not those that were looked at.
        """
        async with self._link.sibling(self._db) as shard_link:
            for symbol, texts in found.skips.items():
                for seq, text in texts.items():
                    await shard_link.call("HSETNX", keys.skips(symbol), seq, text)
        first_lost: dict[str, int] = {}
        queues: dict[str, deque[Lost]] = {}
        for one in found.lost:
            first_lost.setdefault(one.key, one.record.seq)
            queues.setdefault(one.key, deque()).append(one)
        await self._commit(
            [
                outcome
                for symbol, of in found.outcomes.items()
                for seq, outcome in sorted(of.items())
                if seq < first_lost.get(symbol, seq + 1)
            ]
        )
        return await self._put_back(queues, found.outcomes, on_done)

    async def _put_back(
        self,
        queues: Mapping[str, deque[Lost]],
        outcomes: Mapping[str, Mapping[int, Settlement]],
        on_done: Callable[[Lost], None],
    ) -> list[Short]:
        """Take the earliest entry of a stream that lacks no money, again and again."""
        short: dict[str, Short] = {}
        while True:
            heads = [queue[0] for key, queue in queues.items() if queue and key not in short]
            if not heads:
                return list(short.values())
            one = min(heads, key=lambda head: (head.record.ts_ns, head.key != LEDGER))
            available = await self._restore(one)
            if available is not None:
                short[one.key] = Short(one, available)
                continue
            queues[one.key].popleft()
            outcome = outcomes.get(one.key, {}).get(one.record.seq)
            if outcome is not None:
                await self._commit([outcome])
            short.clear()
            on_done(one)

    async def _restore(self, lost: Lost) -> int | None:
        """Put one entry back; return what is available of its asset where that is too little."""
        if lost.key == LEDGER:
            reply = await self._restore_ledger(lost.record, lost.content)
        else:
            reply = await self._restore_command(lost)
        code, record = reply[0], lost.record
        if code in (b"OK", b"THERE"):
            return None
        if code == b"FUNDS":
            return int(reply[1])
        if code == b"LEASE":
            raise Fenced("somebody else has taken the lease: an engine was started too early")
        if code == b"HOME":
            raise HomeMismatch(f"{lost.key}: its home is not {self._homes[lost.key].incarnation}")
        if code == b"GAP":
            raise StreamGap(_stream(lost.key), reply[1], record.seq)
        assert code == b"DIFFERS", f"Invariant: a known answer, not {code!r}"
        raise HistoryDiffers(_stream(lost.key), record.seq)

    async def _restore_command(self, lost: Lost) -> list[Any]:
        record, command = lost.record, lost.content
        version = command.rules.version if isinstance(command, DefineSymbol) else ""
        reply: list[Any] = await _COMMAND.run(
            self._link,
            *self._lease_args(),
            lost.key,
            self._homes[lost.key].incarnation,
            record.seq,
            record.ts_ns // 1_000,
            record.payload,
            getattr(command, "account", 0),
            lost.asset,
            str(lost.amount) if lost.amount else "",
            getattr(command, "session", 0),
            getattr(command, "msg_seq_num", 0),
            version,
            command.reason.name.lower() if isinstance(command, SetPhase) else "",
        )
        return reply

    async def _restore_ledger(self, record: Record, entry: object) -> list[Any]:
        reply: list[Any] = await _LEDGER.run(
            self._link,
            *self._lease_args(),
            record.seq,
            record.ts_ns // 1_000,
            record.payload,
            *_ledger_args(entry),
        )
        return reply

    def _lease_args(self) -> tuple[int, str, int]:
        return self._db, self._lease.owner, self._lease.epoch

    async def _commit(self, outcomes: list[Settlement]) -> None:
        for start in range(0, len(outcomes), COMMIT_BATCH_MAX):
            await self._committer.commit(outcomes[start : start + COMMIT_BATCH_MAX])

    async def _ends(self) -> dict[str, int]:
        names = list(self._homes)
        async with self._link.sibling(self._db) as shard_link:
            found = await shard_link.pipeline([last_entry(keys.orders(name)) for name in names])
        ends = dict(zip(names, map(last_number, found), strict=True))
        if self._with_ledger:
            ends[LEDGER] = last_number(await self._link.call(*last_entry(keys.LEDGER)))
        return ends

    async def _check_common(self, key: str, record: Record) -> None:
        """Compare the last entry that stream and journal both have."""
        entry_id = f"{record.seq}-0"
        async with self._link.sibling(0 if key == LEDGER else self._db) as link:
            found = await link.call("XRANGE", _stream(key), entry_id, entry_id)
        if found and found[0][1][1::2] != [record.payload, b"%d" % (record.ts_ns // 1_000)]:
            raise HistoryDiffers(_stream(key), record.seq)

    async def _lost_skips(
        self, skips: Mapping[tuple[str, int], Record]
    ) -> dict[str, dict[int, str]]:
        lost: dict[str, dict[int, str]] = {}
        async with self._link.sibling(self._db) as shard_link:
            for (symbol, seq), record in skips.items():
                if not await shard_link.call("HEXISTS", keys.skips(symbol), seq):
                    text = f"{record.ts_ns // 1_000} {record.payload.decode()}"
                    lost.setdefault(symbol, {})[seq] = text
        return lost


class _Replay:
    """Goes through a journal: what lies beyond the streams, and what is not committed.

    Args:
        ends: key → the last entry of its stream.
        committed: symbol → the last seq committed.
        skips: reasons by symbol and seq.

    Attributes:
        common: key → the last record that stands in the stream too.
    """

    def __init__(
        self,
        ends: Mapping[str, int],
        committed: Mapping[str, int],
        skips: Mapping[tuple[str, int], str],
    ) -> None:
        self._ends = ends
        self._committed = committed
        self._skips = skips
        self._shard = MatchingShard()
        self._rules: dict[str, SymbolRules] = {}
        self._stopped: set[str] = set()
        self._last: dict[str, int] = {}
        self.lost: list[Lost] = []
        self.outcomes: dict[str, dict[int, Settlement]] = {}
        self.common: dict[str, Record] = {}

    def take(self, record: Record) -> None:
        """Take the next record of a stream.

        Raises:
            StreamGap: it is not the next record of its stream.
        """
        expected = self._last.get(record.key, 0) + 1
        if record.seq != expected:
            raise StreamGap(f"journal of {record.key}", expected, record.seq)
        self._last[record.key] = record.seq
        key, is_lost = record.key, record.seq > self._ends[record.key]
        if not is_lost:
            self.common[key] = record
        if key == LEDGER:
            if is_lost:
                self.lost.append(_lost_entry(record))
            return
        try:
            command: Command | None = decode_command(record.payload)
        except DecodeError:
            command = None
        if isinstance(command, DefineSymbol):
            self._rules[key] = command.rules
        if is_lost:
            self.lost.append(self._lost(record, command))
        if key not in self._stopped:
            self._apply(record, command)

    def _lost(self, record: Record, command: Command | None) -> Lost:
        if not isinstance(command, NewOrder | ReplaceOrder) or not command.reserved:
            return Lost(record.key, record, command)
        asset = self._rules[record.key].hold_asset(command.side)
        return Lost(record.key, record, command, asset, command.reserved)

    def _apply(self, record: Record, command: Command | None) -> None:
        symbol, seq, ts_us = record.key, record.seq, record.ts_ns // 1_000
        reason = self._skips.get((symbol, seq))
        try:
            if reason is not None:
                applied = self._shard.skip(symbol, seq, ts_us, record.payload, reason)
            elif command is None:
                raise DecodeError("no command")
            else:
                applied = self._shard.apply(symbol, seq, ts_us, command)
        except (AssertionError, DecodeError):
            # The engine stops there as well; an operator's skip gets it past.
            self._stopped.add(symbol)
            return
        if seq > self._committed[symbol]:
            self.outcomes.setdefault(symbol, {})[seq] = encode_settlement(applied)


def _stream(key: str) -> str:
    return keys.LEDGER if key == LEDGER else keys.orders(key)


def _lost_entry(record: Record) -> Lost:
    entry = decode_ledger_entry(record.payload)
    if isinstance(entry, Withdrawn):
        return Lost(LEDGER, record, entry, entry.asset, entry.amount)
    return Lost(LEDGER, record, entry)


def _ledger_args(entry: object) -> tuple[str | int, ...]:
    """Return kind, account and the rest, as repair_ledger.lua takes them."""
    if isinstance(entry, UserCreated):
        return "user", entry.account, entry.username, entry.password_hash
    if isinstance(entry, PasswordChanged):
        return "password", entry.account, entry.password_hash
    if isinstance(entry, UserDisabled):
        return "disable", entry.account
    if isinstance(entry, UserChanged):
        return "set", entry.account, entry.field, entry.value
    assert isinstance(entry, Deposited | Withdrawn), "Invariant: a known kind of ledger entry"
    kind = "deposit" if isinstance(entry, Deposited) else "withdraw"
    return kind, entry.account, entry.asset, str(entry.amount), entry.ref
