"""The whole venue in Redis at one moment, for whoever proves that it adds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import hiredis
import msgspec

from engine.commands import DefineSymbol, decode_command
from engine.errors import DecodeError
from engine.instrument import SymbolRules
from engine.limits import READ_BATCH_MAX
from router import keys
from router.dense_ids import entry_number
from router.errors import StreamGap
from router.ledger import Balance, parse_balances
from router.redis_client import RedisLink, scan_keys
from router.scripts import Script

_CUT = Script("venue_cut")


class Extent(msgspec.Struct, frozen=True):
    """A dense stream: numbers of its first and last entry, and how many it has; 0 0 0 = empty."""

    first: int
    last: int
    length: int


class SymbolCut(msgspec.Struct, frozen=True):
    """One symbol: where it lives, its rules in force, how far it is settled, and its streams.

    ``bbo`` is the text of its best prices, as in ``keys``. ``floor``: up to where an engine of its
    shard has said that it needs no orders any more; of two the larger number, 0 if none has.
    """

    shard: int
    db: int
    incarnation: str
    rules: SymbolRules
    settled: int
    bbo: str
    orders: Extent
    events: Extent
    floor: int


class VenueCut(msgspec.Struct, frozen=True):
    """Everything; balances, open orders and outboxes by account, 0 included.

    ``homeless``: symbols that have been settled although they have no home. ``drop_copies``: whose
    reports each drop-copy user gets by its record; ``copies``: who gets those of each account by
    what settlement reads. ``disconnects``: accounts whose orders are canceled when they are gone.
    """

    totals: dict[str, int]
    ledger: Extent
    balances: dict[int, dict[str, Balance]]
    opens: dict[int, dict[str, str]]
    outboxes: dict[int, Extent]
    symbols: dict[str, SymbolCut]
    homeless: list[str]
    drop_copies: dict[int, tuple[int, ...]]
    copies: dict[int, tuple[int, ...]]
    disconnects: list[int]


async def read_venue_cut(link: RedisLink) -> VenueCut:
    """Return the venue as it is at one moment; symbols that are not traded any more included.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
        DecodeError: a key, number or rule is not what its name says.
    """
    names = sorted({key.partition(":")[2] async for key in scan_keys(link, keys.home("*"))})
    try:
        return _parse(names, await _CUT.run(link, *names))
    except (ValueError, hiredis.ReplyError) as error:
        raise DecodeError(
            f"Redis has something else where the venue's state should be: {error}"
        ) from error


def _parse(names: list[str], reply: list[Any]) -> VenueCut:
    totals, settled, bbo, ledger, accounts, copies, disconnects, found = reply
    positions = {name: int(text) for name, text in _texts(settled).items()}
    quotes = _texts(bbo)
    symbols = {}
    for name, parts in zip(names, found, strict=True):
        if parts:
            define = decode_command(parts[1])
            if not isinstance(define, DefineSymbol):
                raise DecodeError(f"home of {name}: expected its DefineSymbol, received {define}")
            symbols[name] = SymbolCut(
                int(parts[4]),
                int(parts[0]),
                define.incarnation,
                define.rules,
                positions.get(name, 0),
                quotes.get(name, ""),
                _extent(parts[2]),
                _extent(parts[3]),
                max(int(parts[5] or 0), int(parts[6] or 0)),
            )
    return VenueCut(
        totals={asset: int(total) for asset, total in _texts(totals).items()},
        ledger=_extent(ledger),
        balances={n: parse_balances(one[0]) for n, one in enumerate(accounts)},
        opens={n: _texts(one[1]) for n, one in enumerate(accounts)},
        outboxes={n: _extent(one[2]) for n, one in enumerate(accounts)},
        symbols=symbols,
        homeless=[name for name in positions if name not in symbols],
        drop_copies={n: _accounts(one[3].decode()) for n, one in enumerate(accounts) if one[3]},
        copies={int(account): _accounts(text) for account, text in _texts(copies).items()},
        disconnects=[int(account) for account in disconnects],
    )


async def read_entries(
    link: RedisLink, key: str, first: int, last: int
) -> AsyncIterator[list[tuple[int, list[bytes]]]]:
    """Yield the entries of a dense stream in bites: number and values, as ``StreamEntry`` has them.

    Raises:
        RedisUnavailable: no reply.
        StreamGap: an entry is missing.
    """
    expected = first
    while expected <= last:
        found = await link.call("XRANGE", key, expected, last, "COUNT", READ_BATCH_MAX)
        if not found:
            raise StreamGap(key, expected, 0)
        bite = []
        for entry_id, fields in found:
            if entry_id != b"%d-0" % expected:
                raise StreamGap(key, expected, entry_number(entry_id))
            bite.append((expected, fields[1::2]))
            expected += 1
        yield bite


def _texts(flat: list[bytes]) -> dict[str, str]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


def _accounts(text: str) -> tuple[int, ...]:
    return tuple(int(account) for account in text.split())


def _extent(parts: list[Any]) -> Extent:
    first, last, length = parts
    return Extent(entry_number(first), entry_number(last), length) if length else Extent(0, 0, 0)
