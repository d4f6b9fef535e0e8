"""What Redis lacks of a shard's journals: why nobody leads it, told by `shardex status`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from engine.errors import JournalCorrupt, JournalMismatch
from engine.journal_keys import LEDGER
from engine.journal_reader import JournalReader
from ops.settings import Settings
from ops.wiring import journal_directory
from router import keys
from router.clearance import has_ledger
from router.dense_ids import last_entry, last_number
from router.errors import LostWrites
from router.redis_client import RedisLink
from router.shards import Shard


async def without_leader(
    settings: Settings, link: RedisLink, shards: Sequence[Shard], leaders: Mapping[int, object]
) -> list[str]:
    """Return which shards nobody leads, and what Redis has lost of each, if it has; in words.

    Journals that are not on this machine are not looked at.

    Args:
        link: accounts database.
        leaders: shard → who leads it, or None.

    Raises:
        RedisUnavailable: no reply.
    """
    found = []
    for shard in shards:
        if shard.id in leaders and leaders[shard.id] is None:
            found.append(f"shard-{shard.id}: nobody leads it")
            found += await _lost_of(settings, link, shard, has_ledger(shard, shards))
    return found


async def _lost_of(
    settings: Settings, link: RedisLink, shard: Shard, with_ledger: bool
) -> list[str]:
    wanted = (*shard.symbols, LEDGER) if with_ledger else shard.symbols
    try:
        # Before the streams, which have everything first.
        journalled = await asyncio.to_thread(_journalled, settings, shard)
    except (JournalCorrupt, JournalMismatch) as error:
        return [f"shard-{shard.id}: {error}"]
    lost = []
    async with link.sibling(shard.db) as shard_link:
        for key in wanted:
            if key == LEDGER:
                name, end = keys.LEDGER, await link.call(*last_entry(keys.LEDGER))
            else:
                name = keys.orders(key)
                end = await shard_link.call(*last_entry(name))
            first, last = last_number(end) + 1, journalled.get(key, 0)
            if first <= last:
                lost.append((name, first, last))
    return [str(LostWrites(shard.id, lost))] if lost else []


def _journalled(settings: Settings, shard: Shard) -> dict[str, int]:
    """Return the last record of each key in whichever of the shard's journals has more."""
    ends: dict[str, int] = {}
    for name in keys.engine_names(shard.id):
        for key, seq in JournalReader(journal_directory(settings, name)).positions().items():
            ends[key] = max(seq, ends.get(key, 0))
    return ends
