"""Outboxes: what the exchange has to tell an account, in order, each entry once (dense ids)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from router import keys
from router.dense_ids import entry_number
from router.errors import StreamGap
from router.open_orders import OpenOrder, parse_open_order
from router.redis_client import RedisLink

_TEXTS = msgspec.msgpack.Decoder(list[str])


class _Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a copy has besides: it was written for a drop-copy session, with the original.

    Attributes:
        copy_of: the account that the original tells; 0 = the entry is no copy.
        original: number of the original in that account's outbox.
    """

    copy_of: int = 0
    original: int = 0


class Report(_Entry, frozen=True, gc=False):
    """An encoded ``Output`` about one account.

    Attributes:
        number: the outbox entry.
        output: with this account's events.
        missed: symbols that a mass cancel of all did not reach, because their shard is away.
    """

    number: int
    output: bytes
    missed: tuple[str, ...] = ()


class RefusedCommand(_Entry, frozen=True, gc=False):
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


class ListedOrder(msgspec.Struct, frozen=True, gc=False):
    """An open order as ``open:{account}`` has it."""

    symbol: str
    cl_ord_id: str
    order: OpenOrder


class OrderList(_Entry, frozen=True, gc=False):
    """A part of the answer to a mass status request, at most 1,000 orders of it.

    Attributes:
        number: the outbox entry.
        request: as ``MassStatusItem.request``.
        first: how many orders of the answer came in earlier entries.
        total: orders of the whole answer; 0: there are none, and this is all of it.
        orders: in no particular order.
        ts_us: stamp of the answer, µs since 1970 UTC.
    """

    number: int
    request: bytes
    first: int
    total: int
    orders: list[ListedOrder]
    ts_us: int


class RefusedList(_Entry, frozen=True, gc=False):
    """A mass status request that admission refused.

    Attributes:
        number: the outbox entry.
        request: as ``MassStatusItem.request``.
        msg_seq_num: of the request's message.
        why: ``pending``: lists of the session are still to be sent. ``many``: the account has more
            open orders than one list may have.
        ts_us: stamp of the refusal, µs since 1970 UTC.
    """

    number: int
    request: bytes
    msg_seq_num: int
    why: str
    ts_us: int


class LostCopies(_Entry, frozen=True, gc=False):
    """Copies of other accounts' reports that are missing at this place of a drop-copy outbox.

    Attributes:
        number: the outbox entry.
        count: how many.
        since_us, ts_us: stamps of the first of them, and of when they were made again, µs since
            1970 UTC.
    """

    number: int
    count: int
    since_us: int
    ts_us: int


OutboxEntry = Report | RefusedCommand | OrderList | RefusedList | LostCopies


async def read_outboxes(
    link: RedisLink, cursors: Mapping[int, int], *, count: int
) -> dict[int, list[OutboxEntry]]:
    """Return what stands behind each cursor, for the accounts that have anything.

    Args:
        link: accounts database.
        cursors: account → number of the last entry seen; 0 = none.
        count: at most so many entries per account, up to the first list of orders, which is a
            thousand messages; the rest comes with the next read.

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
        parsed: list[OutboxEntry] = []
        for entry_id, fields in entries:
            parsed.append(_parse(entry_number(entry_id), fields))
            if type(parsed[-1]) is OrderList:
                break
        expected = cursors[account] + 1
        if (parsed[0].number, parsed[-1].number) != (expected, expected + len(parsed) - 1):
            raise StreamGap(keys.outbox(account), expected, parsed[0].number)
        found[account] = parsed
    return found


def _parse(number: int, fields: list[bytes]) -> OutboxEntry:
    if len(fields) == 2:
        return Report(number, fields[1])
    if fields[0] == b"a":
        entry = _parse(number, fields[4:])
        return replace(entry, copy_of=int(fields[1]), original=int(fields[3]))
    if fields[0] == b"e":
        return Report(number, fields[1], missed=tuple(fields[3].decode().split()))
    if fields[0] == b"c":
        command, symbol, why, ts_us = fields[1::2]
        return RefusedCommand(number, symbol.decode(), command, why.decode(), int(ts_us))
    if fields[0] == b"l":
        return LostCopies(number, *map(int, fields[1::2]))
    request, *rest = fields[1::2]
    if fields[4] == b"w":
        msg_seq_num, why, ts_us = rest
        return RefusedList(number, request, int(msg_seq_num), why.decode(), int(ts_us))
    _, first, total, orders, ts_us = rest
    return OrderList(number, request, int(first), int(total), _listed(orders), int(ts_us))


def _listed(packed: bytes) -> list[ListedOrder]:
    flat = _TEXTS.decode(packed)
    listed = []
    for field, value in zip(flat[::2], flat[1::2], strict=True):
        symbol, _, cl_ord_id = field.partition("|")
        listed.append(ListedOrder(symbol, cl_ord_id, parse_open_order(value.encode())))
    return listed
