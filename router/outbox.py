"""Outboxes: what the exchange has to tell an account, in order, each entry once (dense ids)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from router import keys
from router.dense_ids import entry_number
from router.errors import StreamGap
from router.redis_client import RedisLink


class Report(msgspec.Struct, frozen=True, gc=False):
    """An encoded ``Output`` about this account."""

    number: int
    output: bytes


class RefusedCommand(msgspec.Struct, frozen=True, gc=False):
    """A command that admission refused.

    Attributes:
        number: the outbox entry.
        symbol: whose stream it was meant for.
        command: encoded.
        why: ``funds``: it would have reserved more than is available. ``away``: its shard's server
            is not cleared. ``backlog``: too many inputs wait for the symbol's engine.
        ts_us: stamp of the refusal, µs since 1970 UTC.
    """

    number: int
    symbol: str
    command: bytes
    why: str
    ts_us: int


OutboxEntry = Report | RefusedCommand


async def read_outboxes(
    link: RedisLink, cursors: Mapping[int, int], *, count: int
) -> dict[int, list[OutboxEntry]]:
    """Return what stands behind each cursor, for the accounts that have anything.

    Args:
        link: accounts database.
        cursors: account → number of the last entry seen; 0 = none.
        count: at most so many entries per account; the rest comes with the next read.

    Raises:
        StreamGap: an outbox does not go on at its cursor.
        RedisUnavailable: no reply.
    """
    if not cursors:
        return {}
    names = [keys.outbox(account) for account in cursors]
    ids = [f"{cursor}-0" for cursor in cursors.values()]
    reply = await link.call("XREAD", "COUNT", count, "STREAMS", *names, *ids)
    found: dict[int, list[OutboxEntry]] = {}
    for key, entries in reply or ():
        account = int(key.rpartition(b":")[2])
        parsed = [_parse(entry_number(entry_id), fields) for entry_id, fields in entries]
        expected = cursors[account] + 1
        if (parsed[0].number, parsed[-1].number) != (expected, expected + len(parsed) - 1):
            raise StreamGap(keys.outbox(account), expected, parsed[0].number)
        found[account] = parsed
    return found


def _parse(number: int, fields: list[bytes]) -> OutboxEntry:
    if fields[0] == b"e":
        return Report(number, fields[1])
    command, symbol, why, ts_us = fields[1::2]
    return RefusedCommand(number, symbol.decode(), command, why.decode(), int(ts_us))
