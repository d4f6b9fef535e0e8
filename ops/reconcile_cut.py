"""What a single cut through Redis shows, without a replay: it costs little, however old the venue.

Its limits are those of ``venue_cut.lua``, and what is under way behind `settled`.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import DecodeError
from engine.instrument import SymbolRules
from ops.reconcile import (
    Amounts,
    Difference,
    Differences,
    Owner,
    add_reserved,
    check_dense,
    check_ends,
    check_held,
    check_money,
    check_pending,
)
from router import keys
from router.errors import StreamGap
from router.ledger import Balance
from router.open_orders import parse_open_order
from router.redis_client import RedisLink
from router.skips import read_skips
from router.venue_cut import Extent, SymbolCut, VenueCut, read_entries, read_venue_cut


async def reconcile_cut(link: RedisLink) -> list[Difference]:
    """Return what one cut shows.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
        DecodeError: see ``read_venue_cut``.
    """
    found = Differences()
    await check_cut(found, link, await read_venue_cut(link))
    return found.all()


async def check_cut(found: Differences, link: RedisLink, cut: VenueCut) -> None:
    """Check what needs no replay.

    A stream of orders is whole, or begins at or before the entry that an engine has said to have in
    an older snapshot and in its journal.
    """
    balances = amounts_of(cut.balances)
    check_money(found, balances, cut.totals)
    _check_holds(found, cut, balances)
    _check_extent(found, keys.LEDGER, cut.ledger, begins_by=1)
    for account, outbox in cut.outboxes.items():
        _check_extent(found, keys.outbox(account), outbox, begins_by=None)
    _check_users(found, cut)
    for symbol in cut.homeless:
        found.add("home", symbol, "has been settled, but has no home")
    reserved: dict[Owner, int] = {}
    is_read = True
    for symbol, one in cut.symbols.items():
        _check_extent(found, keys.orders(symbol), one.orders, begins_by=max(1, one.floor))
        _check_extent(found, keys.events(symbol), one.events, begins_by=None)
        check_ends(
            found,
            symbol,
            admitted=one.orders.last,
            settled=one.settled,
            published=one.events.last,
        )
        is_read &= await _add_unsettled(found, link, symbol, one, reserved)
    if is_read:
        check_pending(found, balances, reserved)


def _check_users(found: Differences, cut: VenueCut) -> None:
    """Check that copies are what the users' records say, and that whoever may be gone is a user."""
    copies: dict[int, list[int]] = {}
    for user, of in sorted(cut.drop_copies.items()):
        for account in of:
            copies.setdefault(account, []).append(user)
    for account in sorted(copies.keys() | cut.copies.keys()):
        wanted, stands = tuple(copies.get(account, ())), cut.copies.get(account, ())
        if wanted != stands:
            text = f"goes to {stands or 'nobody'}, by the users' records to {wanted or 'nobody'}"
            found.add("copies", f"account {account}", text)
    for account in cut.disconnects:
        if account not in cut.outboxes:
            found.add("disconnects", f"account {account}", "there is no such user")


def amounts_of(balances: Mapping[int, Mapping[str, Balance]]) -> dict[Owner, Amounts]:
    """Return balances by account and asset."""
    return {
        (account, asset): (one.available, one.pending, one.held)
        for account, of in balances.items()
        for asset, one in of.items()
    }


def holds_of(
    opens: Mapping[int, Mapping[str, str]], rules: Mapping[str, SymbolRules]
) -> dict[Owner, int]:
    """Return what open orders hold, by account and asset.

    Raises:
        KeyError: an order's symbol has no rules.
        ValueError, TypeError: an order's text is not what it must be.
    """
    holds: dict[Owner, int] = {}
    for account, of in opens.items():
        for name, text in of.items():
            order = parse_open_order(text.encode())
            owner = account, rules[name.partition("|")[0]].hold_asset(order.side)
            holds[owner] = holds.get(owner, 0) + order.hold
    return holds


def gap_difference(found: Differences, gap: StreamGap) -> None:
    """Add that a stream lacks an entry."""
    found.add("dense", gap.key, f"expected entry {gap.expected}, found {gap.received or 'none'}")


def _check_extent(
    found: Differences, stream: str, extent: Extent, *, begins_by: int | None
) -> None:
    check_dense(
        found,
        stream,
        first=extent.first,
        last=extent.last,
        length=extent.length,
        begins_by=begins_by,
    )


def _check_holds(found: Differences, cut: VenueCut, balances: Mapping[Owner, Amounts]) -> None:
    rules = {symbol: one.rules for symbol, one in cut.symbols.items()}
    readable: dict[int, dict[str, str]] = {}
    for account, of in cut.opens.items():
        for name, text in of.items():
            try:
                holds_of({account: {name: text}}, rules)
            except (KeyError, ValueError, TypeError):
                found.add("held", f"account {account} {name}", f"is no open order: {text}")
            else:
                readable.setdefault(account, {})[name] = text
    check_held(found, balances, holds_of(readable, rules))


async def _add_unsettled(
    found: Differences,
    link: RedisLink,
    symbol: str,
    cut: SymbolCut,
    reserved: dict[Owner, int],
) -> bool:
    """Add what a symbol's commands behind `settled` reserve; False if they are not all there."""
    key = keys.orders(symbol)
    async with link.sibling(cut.db) as shard_link:
        try:
            skips = (await read_skips(shard_link, (symbol,)))[symbol]
            async for bite in read_entries(shard_link, key, cut.settled + 1, cut.orders.last):
                commands = [(seq, values[0]) for seq, values in bite]
                add_reserved(reserved, cut.rules, commands, skips)
        except StreamGap as gap:
            gap_difference(found, gap)
            return False
        except DecodeError as error:
            found.add("replay", symbol, f"behind {cut.settled}: {error}")
            return False
    return True
