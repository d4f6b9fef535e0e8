"""Clear a server for what counts: it has all that the journal has (``scripts/clear.lua``).

Replication is asynchronous, so a server that takes over may lack writes that were acknowledged. The
journal is the second copy. So each server, known by its run id, has to be cleared by the engine
that leads the shard before admission, settlement and publication write there (``cleared.lua``). A
plain start of the same server looks the same from outside and is cleared the same way, at once.

The shard whose number is lowest, of those with symbols, has the ledger too, and clears DB 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.journal import Record
from engine.journal_keys import LEDGER
from router.errors import Fenced, HistoryDiffers, LostWrites, ServerBehind
from router.lease import Lease
from router.redis_client import Argument, RedisLink
from router.scripts import Script, pack
from router.shards import Shard

_CLEAR = Script("clear", bound=True)
_NOT_OURS = -1


def has_ledger(shard: Shard, shards: Sequence[Shard]) -> bool:
    """Tell whether a shard's engines journal the ledger and clear DB 0."""
    return shard.id == min(one.id for one in shards if one.symbols)


async def clear(
    link: RedisLink,
    lease: Lease,
    shard: Shard,
    *,
    tails: Mapping[str, Record],
    with_ledger: bool,
    committed: Mapping[str, int],
) -> None:
    """Compare the server with the journal, and clear it if it has everything.

    May be repeated at any time.

    Args:
        link: accounts database.
        lease: of the shard, acquired.
        shard: whose streams are compared.
        tails: symbol, and ``ledger`` → its last record in the journal; of two engines' journals the
            later one. Missing: the journal has none; without a payload: its number alone is known.
        with_ledger: ``has_ledger`` of the shard.
        committed: symbol → the last seq that this engine has committed, if any.

    Raises:
        LostWrites: the server lacks what the journal has; nobody may write there until it is
            repaired.
        HistoryDiffers: it has something else; likewise.
        ServerBehind: it lacks outcomes alone; it is not cleared: start the engine again.
        Fenced: another engine leads the shard.
        RedisUnavailable, OutOfMemory: it was not cleared, or nobody knows; try again.
    """
    ledger = tails.get(LEDGER) if with_ledger else None
    number = (ledger.seq if ledger else 0) if with_ledger else _NOT_OURS
    head: list[str | int] = [shard.db, lease.owner, lease.epoch, number]
    args: list[Argument] = [b"", *_entry(ledger)]
    for symbol in shard.symbols:
        tail = tails.get(symbol)
        head += (symbol, tail.seq if tail else 0, committed.get(symbol, 0))
        args += _entry(tail)
    args[0] = pack(head)
    reply = await _CLEAR.run(link, *args)
    code = reply[0]
    if code == b"LEASE":
        raise Fenced(f"{lease.owner} does not lead its shard (epoch {lease.epoch})")
    if code == b"LOST":
        flat = reply[1]
        names = [key.decode() for key in flat[::3]]
        raise LostWrites(shard.id, list(zip(names, flat[1::3], flat[2::3], strict=True)))
    if code == b"DIFFERS":
        raise HistoryDiffers(reply[1].decode(), reply[2])
    if code == b"BEHIND":
        raise ServerBehind(reply[1].decode(), reply[2], reply[3])
    assert code == b"OK", f"Invariant: a known answer, not {code!r}"


def _entry(record: Record | None) -> tuple[bytes, str]:
    """Return payload and stamp as they stand in the stream."""
    return (record.payload, str(record.ts_ns // 1_000)) if record else (b"", "")
