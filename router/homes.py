"""Where each symbol lives, which incarnation of it, and under which rules.

A home is data (design, section 2): ``home:{symbol}`` in the accounts database and in the shard's
holds the same random incarnation, made once. Whoever talks about a symbol says which incarnation it
means; a wrong URL or an emptied database is then an error, never a silent restart at seq 1.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence

import msgspec

from engine.commands import DefineSymbol, decode_command, encode_command
from engine.events import decode_output
from engine.instrument import SymbolRules
from engine.limits import READ_BATCH_MAX
from router import keys
from router.dense_ids import last_entry, last_number
from router.errors import HomeMismatch, VenueRefused
from router.ledger import read_totals
from router.redis_client import RedisLink, scan_keys
from router.scripts import Script
from router.shards import Shard

_DEFINE = Script("define_symbol", before=("cleared",))
_DEFINE_TRIES_MAX = 10
_GRID_KEYS = ("base", "quote", "tick_size", "lot_size")
_SCALE_KEYS = ("base_scale", "quote_scale")
_READERS = {keys.POSITION_WRITER: "the writer", keys.POSITION_MARKETDATA: "market data"}


class Home(msgspec.Struct, frozen=True):
    """One symbol's home: what admission and commit compare, and the rules in force."""

    symbol: str
    shard: int
    db: int
    incarnation: str
    rules: SymbolRules


async def read_homes(link: RedisLink, shards: Iterable[Shard]) -> dict[str, Home]:
    """Return the home of every symbol of the shards, checked.

    Args:
        link: accounts database.

    Raises:
        HomeMismatch: a symbol has no home, lives in another shard or database, its two halves
            differ, or its stream ends before what has been settled.
    """
    homes: dict[str, Home] = {}
    for shard in shards:
        for symbol in shard.symbols:
            home = await read_home(link, symbol)
            if home is None:
                raise HomeMismatch(f"{symbol} has no home: it was never defined in this Redis")
            _check_place(home, shard)
            homes[symbol] = home
        await _check_streams(link, shard, homes)
    return homes


def flat_homes(homes: Mapping[str, Home]) -> list[str | int]:
    """Return name, database and incarnation of each symbol, by database, as scripts take them."""
    symbols: list[str | int] = []
    for home in sorted(homes.values(), key=lambda home: home.db):
        symbols += (home.symbol, home.db, home.incarnation)
    return symbols


async def read_retired_rules(link: RedisLink, homes: Mapping[str, Home]) -> list[SymbolRules]:
    """Return the last rules of symbols that are not traded any more; reports may still name them.

    Args:
        link: accounts database.
        homes: of every symbol that is traded.

    Raises:
        RedisUnavailable: no reply.
    """
    return [home.rules async for home in _retired_homes(link, homes)]


async def _retired_homes(link: RedisLink, traded: Container[str]) -> AsyncIterator[Home]:
    async for key in scan_keys(link, keys.home("*")):
        symbol = key.partition(":")[2]
        home = None if symbol in traded else await read_home(link, symbol)
        if home is not None:
            yield home


async def define_symbols(
    link: RedisLink, shards: Iterable[Shard], rules: Mapping[str, SymbolRules]
) -> dict[str, Home]:
    """Give new symbols a home, append changed rules to their streams, and return all homes.

    Running it again, or in several processes at once, changes nothing more. A change that is
    refused leaves all symbols as they were. One in a shard whose database is not cleared
    (``clearance.py``) waits: the old rules stay in force, and the same call makes it later. The
    engine that clears calls it again.

    Args:
        link: accounts database.
        rules: of every symbol, as exchange.toml has them; their version is ignored.

    Raises:
        VenueRefused: a change that open orders or balances forbid; the message names the key.
        HomeMismatch: see ``read_homes``.
    """
    shards = tuple(shards)
    placed = [(shard, rules[symbol]) for shard in shards for symbol in shard.symbols]
    await _refuse_removed(link, rules)
    for shard, wanted in placed:
        home = await read_home(link, wanted.symbol)
        if home is not None:
            _check_place(home, shard)
            await _refuse_unsafe_change(link, shard, home.rules, wanted)
    for shard, wanted in placed:
        await _define(link, shard, wanted)
    return await read_homes(link, shards)


async def refuse_removed_assets(link: RedisLink, assets: Container[str]) -> None:
    """Refuse to go on without an asset that somebody has.

    Args:
        link: accounts database.
        assets: all that exchange.toml has.

    Raises:
        VenueRefused: there are balances of another one; the message names the key.
        RedisUnavailable: no reply.
    """
    for asset, total in sorted((await read_totals(link)).items()):
        if total and asset not in assets:
            raise VenueRefused(
                f"assets.{asset}", f"cannot be removed while there are balances of {asset}"
            )


async def _define(link: RedisLink, shard: Shard, wanted: SymbolRules) -> None:
    symbol = wanted.symbol
    for _ in range(_DEFINE_TRIES_MAX):
        home = await read_home(link, symbol)
        if home is None:
            expected, incarnation, version = "", secrets.token_hex(8), 1
        else:
            _check_place(home, shard)
            version = home.rules.version
            if msgspec.structs.replace(wanted, version=version) == home.rules:
                return
            await _refuse_unsafe_change(link, shard, home.rules, wanted)
            expected = incarnation = home.incarnation
            version += 1
        rules = msgspec.structs.replace(wanted, version=version)
        command = encode_command(DefineSymbol(incarnation, rules))
        reply = await _DEFINE.run(
            link, symbol, shard.id, shard.db, expected, incarnation, version, command
        )
        if reply[0] in (b"OK", b"UNCLEARED"):
            return
        if reply[0] == b"MIXED":
            raise HomeMismatch(
                f"{symbol}: {reply[1].decode()} in database {shard.db} does not belong to home"
                f" {expected or '(none)'} in database {keys.ACCOUNTS_DB}"
            )
        assert reply[0] == b"CHANGED", "Invariant: a known answer of define_symbol"
    raise HomeMismatch(f"{symbol}: its home kept changing while it was being defined")


async def read_home(link: RedisLink, symbol: str) -> Home | None:
    """Return the home of a symbol as DB 0 has it, or None where it has none.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    fields = await link.call("HMGET", keys.home(symbol), "shard", "db", "incarnation", "define")
    if fields[2] is None:
        return None
    command = decode_command(fields[3])
    assert isinstance(command, DefineSymbol), "Invariant: a home keeps the command that defined it"
    return Home(symbol, int(fields[0]), int(fields[1]), fields[2].decode(), command.rules)


def _check_place(home: Home, shard: Shard) -> None:
    if (home.shard, home.db) != (shard.id, shard.db):
        raise HomeMismatch(
            f"{home.symbol} lives in shard {home.shard} (db {home.db}), not in shard {shard.id}"
            f" (db {shard.db}): moving a symbol is not possible"
        )


async def _check_streams(link: RedisLink, shard: Shard, homes: Mapping[str, Home]) -> None:
    settled = await read_settled(link, shard.symbols)
    commands: list[tuple[str | int, ...]] = []
    for symbol in shard.symbols:
        commands.append(("GET", keys.home(symbol)))
        commands.append(last_entry(keys.orders(symbol)))
    async with link.sibling(shard.db) as shard_link:
        replies = await shard_link.pipeline(commands)
    for index, symbol in enumerate(shard.symbols):
        incarnation, last = replies[2 * index], replies[2 * index + 1]
        if incarnation is None or incarnation.decode() != homes[symbol].incarnation:
            raise HomeMismatch(
                f"{symbol}: database {shard.db} holds incarnation {incarnation!r}, its home is"
                f" {homes[symbol].incarnation}"
            )
        last_seq = last_number(last)
        if last_seq < max(1, settled[symbol]):
            raise HomeMismatch(
                f"{symbol}: its stream ends at seq {last_seq}, but {settled[symbol]} was settled"
            )


async def read_settled(link: RedisLink, symbols: Iterable[str]) -> dict[str, int]:
    """Return the last settled seq of each symbol, 0 for none.

    Args:
        link: accounts database.
    """
    names = list(symbols)
    if not names:
        return {}
    values = await link.call("HMGET", keys.SETTLED, *names)
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}


async def _refuse_unsafe_change(
    link: RedisLink, shard: Shard, old: SymbolRules, new: SymbolRules
) -> None:
    changed = [key for key in (*_GRID_KEYS, *_SCALE_KEYS) if getattr(old, key) != getattr(new, key)]
    if not changed:
        return
    rescaled = old.quote == new.quote and old.quote_scale != new.quote_scale
    assets = (old.base, old.quote) if rescaled else (old.base,)
    reason = await _reason_to_keep(link, shard, old.symbol, assets)
    if reason is None and await _has_unread_reports(link, old.symbol):
        # They count in the ticks and lots of their time.
        reason = "there are reports about it that their account has not received"
    if reason is not None:
        key = f"symbols.{old.symbol}.{changed[0]}"
        if changed[0] in _SCALE_KEYS:
            key = f"assets.{getattr(old, changed[0].removesuffix('_scale'))}.scale"
        raise VenueRefused(key, f"cannot change while {reason}")


async def _refuse_removed(link: RedisLink, rules: Mapping[str, SymbolRules]) -> None:
    async for home in _retired_homes(link, rules):
        shard = Shard(home.shard, link.url, home.db, (home.symbol,))
        if reason := await _reason_to_keep(link, shard, home.symbol, (home.rules.base,)):
            raise VenueRefused(f"symbols.{home.symbol}", f"cannot be removed while {reason}")


async def _reason_to_keep(
    link: RedisLink, shard: Shard, symbol: str, assets: Sequence[str]
) -> str | None:
    """Return why a symbol's grid may not change, nor the symbol go, or None.

    Balances of the assets, its orders, or outputs that a reader would find no rules for.
    """
    totals = await link.call("HMGET", keys.TOTALS, *assets)
    for asset, total in zip(assets, totals, strict=True):
        if int(total or 0):
            return f"there are balances of {asset}"
    async with link.sibling(shard.db) as shard_link:
        streams = (keys.orders(symbol), keys.events(symbol))
        found = await shard_link.pipeline([last_entry(stream) for stream in streams])
    last_order, last_event = map(last_number, found)
    settled = await read_settled(link, (symbol,))
    if last_order > settled[symbol]:
        return "orders are waiting for the engine"
    for position, reader in _READERS.items():
        read = await link.call("HGET", position, symbol)
        if read is not None and int(read) < last_event:
            return f"{reader} has not read all of its events"
    prefix = keys.open_field(symbol, "").encode()
    async for key in scan_keys(link, "open:*"):
        if any(field.startswith(prefix) for field in await link.call("HKEYS", key)):
            return "it has open orders"
    return None


async def _has_unread_reports(link: RedisLink, symbol: str) -> bool:
    async for key in scan_keys(link, keys.outbox_pattern()):
        account = int(key.rpartition(":")[2])
        start = f"({int(await link.call('HGET', keys.session(account), 'cursor') or 0)}-0"
        while entries := await link.call("XRANGE", key, start, "+", "COUNT", READ_BATCH_MAX):
            if any(_names(symbol, fields) for _, fields in entries):
                return True
            start = f"({entries[-1][0].decode()}"
    return False


def _names(symbol: str, fields: list[bytes]) -> bool:
    """Tell whether an outbox entry, a refused command or an output, is about a symbol."""
    entry = dict(zip(fields[::2], fields[1::2], strict=True))
    if b"s" in entry:
        return entry[b"s"].decode() == symbol
    return decode_output(entry[b"e"]).symbol == symbol
