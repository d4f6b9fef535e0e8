"""What an operator's command says about the journal: success is that the leader's journal has it.

The ledger stands in Redis and, a moment later, in the journals of the engines of the lowest shard
that has symbols. Where no engine runs there, the command has done what it was asked to, and says
that no journal has it yet.
"""

from __future__ import annotations

from ops.settings import Settings
from ops.wiring import shard_map
from router.ledger_journal import JOURNALLED_TIMEOUT_S, Journalled, wait_until_journalled
from router.redis_client import RedisLink
from router.shards import Shard


def ledger_shard(settings: Settings, redis_url: str) -> Shard | None:
    """Return the shard whose engines journal the ledger; None where nothing is traded."""
    shards = [shard for shard in shard_map(settings, redis_url).shards if shard.symbols]
    return min(shards, key=lambda shard: shard.id, default=None)


async def journalled(settings: Settings, link: RedisLink, entry: int) -> Journalled:
    """Wait, at most JOURNALLED_TIMEOUT_S, until the leader's journal has a ledger entry.

    Args:
        link: accounts database.
        entry: its number.

    Raises:
        RedisUnavailable: no reply.
    """
    shard = ledger_shard(settings, link.url)
    if shard is None:
        return Journalled(entry, "", [])
    return await wait_until_journalled(link, shard, entry)


def journal_note(settings: Settings, done: Journalled) -> str:
    """Return what to print below the command's own line; empty where a journal has the entry."""
    if done.engine:
        return ""
    stands = f"It stands in the ledger (entry {done.entry}), but"
    if done.live:
        return (
            f"{stands} {' and '.join(done.live)} did not journal it in {JOURNALLED_TIMEOUT_S:g} s"
        )
    shard = ledger_shard(settings, "")
    of = f"engine of shard {shard.id}" if shard is not None else "engine"
    return f"{stands} no {of} runs: no engine has journalled it yet"
