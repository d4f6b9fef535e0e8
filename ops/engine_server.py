"""Whether the server has all that a shard's journals have: what an engine asks before it leads.

The journals are those of both engines of the shard, as far as they are on this machine: an engine
that takes over may have read less than the one that is gone. Where the other journal is on another
machine, a server that lost what only that one has is cleared all the same (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from engine.journal import Record
from engine.journal_keys import LEDGER, skip_key
from engine.journal_reader import JournalReader
from router import keys
from router.clearance import clear
from router.errors import LostWrites, OutputDiffers
from router.lease import Lease
from router.redis_client import RedisLink
from router.shards import Shard
from router.skips import Skips, check_skips

DIFFERENCE_MARK = "differed"
"""File beside an engine's snapshots that keeps it from starting, with both versions of the output
that differed: such an engine must not come to lead."""

logger = logging.getLogger("ops")


class ServerCheck:
    """Compares the server with the journals, and clears it.

    Args:
        link: accounts database.
        shard_link: the shard's database, for nothing else.
        lease: of the shard.
        shard: whose streams.
        with_ledger: its engines journal the ledger.
        skips: what the engine knows of.
        own: the engine's journal.
        journalled: key → the last seq that it had when it was opened.
        other: the other engine's, if there is one on this machine.
        written: gives symbol, and ``ledger`` → the last record that this engine has written since.
        committed: gives symbol → the last seq that this engine has committed, or compared.
        on_cleared: does what has to wait for that; repeated with the check where it fails.
    """

    def __init__(
        self,
        link: RedisLink,
        shard_link: RedisLink,
        lease: Lease,
        shard: Shard,
        *,
        with_ledger: bool,
        skips: Skips,
        own: JournalReader,
        journalled: Mapping[str, int],
        other: JournalReader | None,
        written: Callable[[], Mapping[str, Record]],
        committed: Callable[[], Mapping[str, int]],
        on_cleared: Callable[[], Awaitable[None]],
    ) -> None:
        self._link = link
        self._shard_link = shard_link
        self._lease = lease
        self._shard = shard
        self._with_ledger = with_ledger
        self._skips = skips
        self._keys: Sequence[str] = (*shard.symbols, LEDGER)
        self._own = own
        self._own_tails: dict[str, Record] | None = None
        self._journalled = dict(journalled)
        self._other = other
        self._written = written
        self._committed = committed
        self._on_cleared = on_cleared
        self._has_just_cleared = False
        self._checked = ""

    @property
    def ledger_position(self) -> int:
        """The last ledger entry that the journal had when it was opened; 0 = none."""
        return self._journalled.get(LEDGER, 0)

    def check_ends(self, ends: Mapping[str, int]) -> None:
        """Refuse streams, and skips, that end before the engine's own journal.

        Without a skip the engine would apply an input whose sender was told that it was refused.

        Args:
            ends: symbol → the last seq of its stream.

        Raises:
            LostWrites: lists what they lack.
        """
        journalled = self._journalled
        lost = [
            (keys.orders(symbol), end + 1, journalled[symbol])
            for symbol, end in ends.items()
            if end < journalled.get(symbol, 0)
        ]
        for symbol, reasons in self._skips.items():
            last = journalled.get(skip_key(symbol))
            if last is not None and last not in reasons:
                lost.append((keys.skips(symbol), last, last))
        if lost:
            raise LostWrites(self._shard.id, lost)

    async def check_skips(self) -> None:
        """Find out whether inputs have been skipped since the engine started.

        Raises:
            SkipsChanged: they have.
            RedisUnavailable: no reply.
        """
        await check_skips(self._shard_link, self._skips)

    async def check(self) -> None:
        """See to it that the engine may lead on this server; it may be repeated.

        Raises:
            SkipsChanged, LostWrites, HistoryDiffers, ServerBehind: the engine has to end.
            RedisUnavailable, OutOfMemory: try again.
        """
        await self.check_skips()
        server = self._lease.run_id
        # A server that comes back has the mark that it had; what happened elsewhere it has not.
        has_changed = self._checked not in ("", server)
        if has_changed or not await self._is_cleared():
            await clear(
                self._link,
                self._lease,
                self._shard,
                tails=await self._latest(),
                with_ledger=self._with_ledger,
                committed=self._committed(),
            )
            logger.info("Server %s is cleared", server)
            self._has_just_cleared = True
        if self._has_just_cleared:
            await self._on_cleared()
            self._has_just_cleared = False
        self._checked = server

    async def _latest(self) -> dict[str, Record]:
        """Return the last record of each key, of both journals and of what was written since."""
        if self._own_tails is None:
            self._own_tails = await asyncio.to_thread(self._own.tails, self._keys)
        _keep_later(self._own_tails, self._written())
        tails = dict(self._own_tails)
        if self._other is not None:
            _keep_later(tails, await asyncio.to_thread(self._other.tails, self._keys))
        return tails

    async def _is_cleared(self) -> bool:
        found = [await self._shard_link.call("GET", keys.CLEARED)]
        if self._with_ledger:
            found.append(await self._link.call("GET", keys.CLEARED))
        return all(one == self._shard_link.run_id.encode() for one in found)


def leave_mark(mark: Path, error: OutputDiffers) -> None:
    """Keep an engine that differed from starting again."""
    try:
        mark.write_text(str(error))
    except OSError as failure:
        # The difference itself is what the operator must read.
        logger.error("%s keeps nobody from starting this engine again: %s", mark, failure)


def _keep_later(tails: dict[str, Record], others: Mapping[str, Record]) -> None:
    for key, record in others.items():
        if key not in tails or tails[key].seq < record.seq:
            tails[key] = record
