"""Commit: settle the outputs of a shard in the accounts database, then publish them in the shard's.

Both scripts are idempotent by (symbol, seq) and check the lease and the homes, so a batch may be
sent again, whole or cut differently, by this engine or by its successor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.limits import COMMIT_BATCH_MAX
from engine.settlement import Settlement
from router import keys
from router.dense_ids import last_entry, last_number
from router.errors import Fenced, HomeMismatch, NegativeBalance, OutputDiffers, StreamGap, Uncleared
from router.homes import Home, read_settled
from router.lease import Lease
from router.redis_client import Argument, RedisLink, retry_while_away
from router.scripts import Script, pack, run_scripts
from router.user_settings import log_full_outboxes

_SETTLE = Script("settle", before=("cleared", "copies"))
_PUBLISH = Script("publish", before=("cleared",))

_Fields = tuple[str, str, str]
"""An asset's fields of available, pending and held."""


class Position(msgspec.Struct, frozen=True):
    """How far a symbol's outputs have got: the last seq settled, and published."""

    settled: int
    published: int


class Committer:
    """The way out of an engine; one per shard.

    Args:
        link: accounts database, for nothing else.
        lease: acquired before the first commit.
        homes: of the shard's symbols.

    Attributes:
        available: False while Redis does not answer, has no memory, or is not cleared; commits
            wait.
    """

    def __init__(self, link: RedisLink, lease: Lease, homes: Mapping[str, Home]) -> None:
        self._link = link
        self._lease = lease
        self._homes = homes
        databases = {home.db for home in homes.values()}
        assert len(databases) == 1, "Invariant: a shard's symbols live in one database"
        self._db = databases.pop()
        self._fields: dict[str, _Fields] = {}
        self.available = True

    async def commit(self, batch: Sequence[Settlement]) -> None:
        """Settle and publish a batch, in its order; return when Redis has all of it.

        Waits while Redis is away, out of memory, or not cleared (``clearance.py``), for as long as
        that takes.

        Args:
            batch: at most COMMIT_BATCH_MAX; each symbol's inputs in their order, without gaps.

        Raises:
            Fenced: another engine leads the shard.
            HomeMismatch: the databases are not those that this engine started on.
            StreamGap: the batch does not follow what is settled or published.
            NegativeBalance: nothing of that input was applied; those before it in the batch stand.
            OutputDiffers: an input of the batch was published with other bytes.
        """
        assert 1 <= len(batch) <= COMMIT_BATCH_MAX, "Invariant: a commit batch is bounded"
        calls = self._pack(batch)
        settled, published = await retry_while_away(
            lambda: self._run(calls),
            what="commit",
            on_change=self._on_change,
            out_of_memory_too=True,
        )
        self._check(settled, keys.SETTLED)
        self._check(published, "events")
        log_full_outboxes(settled[2])

    async def positions(self) -> dict[str, Position]:
        """Return how far each symbol's outputs have got: where an engine begins to commit again.

        Waits while Redis is away.
        """
        return await retry_while_away(self._read_positions, what="positions")

    async def _read_positions(self) -> dict[str, Position]:
        symbols = list(self._homes)
        settled = await read_settled(self._link, symbols)
        async with self._link.sibling(self._db) as shard_link:
            lasts = await shard_link.pipeline([last_entry(keys.events(s)) for s in symbols])
        return {
            symbol: Position(settled[symbol], last_number(last))
            for symbol, last in zip(symbols, lasts, strict=True)
        }

    async def _run(self, calls: Sequence[tuple[Script, list[Argument]]]) -> list[Any]:
        replies = await run_scripts(self._link, calls)
        for reply in replies:
            if reply[0] == b"UNCLEARED":
                raise Uncleared(reply[1])
        return replies

    def _on_change(self, available: bool) -> None:
        self.available = available

    def _pack(
        self, batch: Sequence[Settlement]
    ) -> tuple[tuple[Script, list[Argument]], tuple[Script, list[Argument]]]:
        """Return both calls; the flat lists are described in the heads of the scripts."""
        index: dict[str, int] = {}
        last: dict[str, Settlement] = {}
        entries: list[Any] = []
        published: list[int] = []
        settle_args: list[Argument] = [b"", b""]
        publish_args: list[Argument] = [b"", b""]
        for one in batch:
            symbol = one.symbol
            number = index.setdefault(symbol, len(index) + 1)
            last[symbol] = one
            _flatten(one, number, self._fields, entries, settle_args)
            published += (number, one.seq)
            publish_args.append(one.event)
        lease = (self._db, self._lease.owner, self._lease.epoch)
        settle_head: list[Any] = [*lease]
        publish_head: list[Any] = [*lease]
        for symbol, one in last.items():
            incarnation = self._homes[symbol].incarnation
            settle_head += (symbol, incarnation, one.best_bid_ticks, one.best_ask_ticks)
            publish_head += (symbol, incarnation)
        settle_args[:2] = pack(settle_head), pack(entries)
        publish_args[:2] = pack(publish_head), pack(published)
        return (_SETTLE, settle_args), (_PUBLISH, publish_args)

    def _check(self, reply: list[Any], stream: str) -> None:
        code = reply[0]
        if code == b"OK":
            return
        if code == b"LEASE":
            raise Fenced(f"{self._lease.owner} does not lead its shard (epoch {self._lease.epoch})")
        symbol = reply[1].decode()
        if code == b"HOME":
            raise HomeMismatch(f"{symbol}: its home is not {self._homes[symbol].incarnation}")
        if code == b"NEGATIVE":
            raise NegativeBalance(symbol, reply[2], int(reply[3]), reply[4].decode())
        if code == b"DIFFERS":
            raise OutputDiffers(symbol, reply[2])
        assert code in (b"GAP", b"UNSETTLED"), f"Invariant: a known answer, not {code!r}"
        raise StreamGap(f"{stream} of {symbol}", reply[2], reply[3])


def _flatten(
    one: Settlement, number: int, fields: dict[str, _Fields], meta: list[Any], args: list[Argument]
) -> None:
    """Append one entry to the flat list of settle.lua, and its reports to the arguments."""
    changes: list[Any] = []
    for change in one.changes:
        account, asset = change.account, change.asset
        names = fields.get(asset)
        if names is None:
            names = fields[asset] = (keys.available(asset), keys.pending(asset), keys.held(asset))
        if change.available:
            changes += (account, names[0], str(change.available))
        if change.pending:
            changes += (account, names[1], str(change.pending))
        if change.held:
            changes += (account, names[2], str(change.held))
    meta += (number, one.seq, len(changes) // 3)
    meta += changes
    reports = one.reports()
    meta.append(len(reports))
    for account, output in reports:
        meta.append(account)
        args.append(output)
    meta.append(len(one.opens))
    for update in one.opens:
        field = keys.open_field(one.symbol, update.cl_ord_id)
        meta += (update.account, field, update.value or "")
