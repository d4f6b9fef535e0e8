"""Market data, instruments and trading phases over FIX, as real clients ask for them."""

from __future__ import annotations

from tests.interop.clients import Client, Fields, Message
from tests.interop.stage import BUY, SELL, Stage

_BIDS, _OFFERS, _TRADES = "0", "1", "2"
_NEW, _CHANGE, _DELETE = "0", "1", "2"


async def snapshot_of_a_book(stage: Stage) -> None:
    """263=0: one W with the book as it stands, by level and by order."""
    trader = await stage.trader()
    await _book(stage, trader)
    reader = await stage.trader("market-data")
    await reader.send("V", _request(stage, "s-1", "0"))
    snapshot = await reader.expect("W", {262: "s-1", 55: stage.symbol})
    assert _levels(snapshot) == {("0", "10.00", "5"), ("0", "9.90", "7"), ("1", "11.00", "3")}
    await reader.send("V", _request(stage, "s-2", "0", more=[(266, "N")]))
    by_order = await reader.expect("W", {262: "s-2", 55: stage.symbol})
    assert len(by_order.entries(269)) >= 4, by_order
    await _clear(stage, trader)


async def subscription_follows_the_book(stage: Stage) -> None:
    """263=1: W, then X for each change, with trades; 263=2 ends it."""
    trader, reader = await stage.trader(), await stage.trader("market-data")
    await _book(stage, trader)
    for req_id, more in (("u-1", []), ("u-2", [(266, "N")])):
        await reader.send("V", _request(stage, req_id, "1", more=[(265, "1"), *more]))
        await reader.expect("W", {262: req_id, 55: stage.symbol})
    order = await stage.rest(trader, BUY, "1", "9.00")
    await _until_told(reader, "u-1", {279: _NEW, 269: _BIDS, 270: "9.00"})
    await _until_told(reader, "u-2", {279: _NEW, 269: _BIDS, 270: "9.00"})
    await stage.cancel_resting(trader, order, BUY)
    await _until_told(reader, "u-1", {279: _DELETE, 269: _BIDS, 270: "9.00"})
    other = await stage.trader()
    await other.send("D", stage.order(BUY, "1", "11.00"))
    await other.expect("8", {150: "0"})
    await other.expect("8", {150: "F"})
    await trader.expect("8", {150: "F"})
    await _until_told(reader, "u-1", {269: _TRADES, 270: "11.00", 271: "1"})
    for req_id in ("u-1", "u-2"):
        await reader.send("V", _request(stage, req_id, "2"))
    await reader.send("V", _request(stage, "u-3", "0"))
    while (await reader.next())[262] != "u-3":
        continue
    await _clear(stage, trader)


async def refused_subscriptions(stage: Stage) -> None:
    """Unknown symbols, entries and ids in use are refused by Y with the reason."""
    reader = await stage.trader("market-data")
    await reader.send("V", _request(stage, "r-1", "0", symbol="NO-SUCH"))
    await reader.expect("Y", {262: "r-1", 281: "0"})
    await reader.send("V", _request(stage, "r-2", "1", more=[(265, "1")]))
    await reader.expect("W", {262: "r-2"})
    await reader.send("V", _request(stage, "r-2", "1", more=[(265, "1")]))
    await reader.expect("Y", {262: "r-2", 281: "1"})
    await reader.send("V", _request(stage, "r-3", "0", entries=("4",)))
    await reader.expect("Y", {262: "r-3", 281: "8"})
    await reader.send("V", _request(stage, "r-2", "2"))


async def instruments_and_phases(stage: Stage) -> None:
    """x/y lists the instruments; e/f and g/h tell and follow the trading phase."""
    client = await stage.trader()
    await client.send("x", [(320, "l-1"), (559, "4")])
    symbols: list[str] = []
    while len(symbols) < len(stage.venue.endpoints.symbols):
        symbols += (await client.expect("y", {320: "l-1", 560: "0"})).all(55)
    assert sorted(symbols) == sorted(stage.venue.endpoints.symbols), symbols
    await client.send("x", [(320, "l-2"), (559, "0"), (55, stage.symbol)])
    await client.expect("y", {320: "l-2", 55: stage.symbol})
    await client.send("e", [(324, "e-1"), (263, "1"), (55, stage.symbol)])
    await client.expect("f", {324: "e-1", 55: stage.symbol, 326: "17"})
    await client.send("g", [(335, "g-1"), (263, "0")])
    told = [(await client.expect("h", {335: "g-1", 340: "2"}))[336] for _ in symbols]
    assert sorted(told) == sorted(symbols), told
    order = await stage.rest(client, BUY, "1", "10.00")
    await stage.set_phase("halted")
    await client.expect("f", {324: "e-1", 55: stage.symbol, 326: "2"})
    refused = stage.order(BUY, "1", "10.00")
    await client.send("D", refused)
    await client.expect("8", {11: refused[0][1], 150: "8", 103: "2"})
    await stage.set_phase("pre-open")
    await client.expect("f", {324: "e-1"})
    await stage.set_phase("continuous")
    status = await client.expect("f", {324: "e-1"})
    while status[326] != "17":
        status = await client.expect("f", {324: "e-1"})
    await stage.cancel_resting(client, order, BUY)


async def opening_auction(stage: Stage) -> None:
    """Crossing orders wait before the opening, and trade at one price; times in force fit."""
    await stage.set_phase("closed")
    await stage.set_phase("pre-open")
    buyer, seller = await stage.traders()
    refused = stage.order(BUY, "1", "10.00", more=[(59, "3")])
    await buyer.send("D", refused)
    await buyer.expect("8", {11: refused[0][1], 150: "8", 103: "11"})
    opening = stage.order(BUY, "8", "10.20", more=[(59, "2")])
    await buyer.send("D", opening)
    await buyer.expect("8", {11: opening[0][1], 150: "0", 59: "2"})
    sell = await stage.rest(seller, SELL, "5", "10.00")
    high = await stage.rest(seller, SELL, "1", "11.00")
    await stage.set_phase("continuous")
    told = await buyer.expect("8", {11: opening[0][1], 150: "F", 32: "5", 39: "1"})
    await seller.expect("8", {11: sell, 150: "F", 32: "5", 39: "2", 31: told[31]})
    await buyer.expect("8", {11: opening[0][1], 150: "C", 39: "C", 14: "5", 151: "0"})
    await stage.cancel_resting(seller, high, SELL)


def _request(
    stage: Stage,
    req_id: str,
    action: str,
    *,
    symbol: str = "",
    entries: tuple[str, ...] = (_BIDS, _OFFERS, _TRADES),
    more: Fields = (),
) -> Fields:
    """Return the fields of a MarketDataRequest for the whole book."""
    return [
        (262, req_id),
        (263, action),
        (264, "0"),
        *more,
        (267, [[(269, entry)] for entry in entries]),
        (146, [[(55, symbol or stage.symbol)]]),
    ]


async def _book(stage: Stage, client: Client) -> None:
    for side, qty, price in (
        (BUY, "5", "10.00"),
        (BUY, "3", "9.90"),
        (BUY, "4", "9.90"),
        (SELL, "3", "11.00"),
    ):
        await stage.rest(client, side, qty, price)


async def _clear(stage: Stage, client: Client) -> None:
    rested = {one[11]: one[54] for one in client.received if one[150] == "0"}
    for gone in [one for one in client.received if one[39] in ("2", "4")]:
        rested.pop(gone[41] or gone[11], None)
    for cl_ord_id, side in rested.items():
        await stage.cancel_resting(client, cl_ord_id, side)


def _levels(snapshot: Message) -> set[tuple[str, str, str]]:
    return {
        (entry[269], entry[270], entry[271])
        for entry in snapshot.entries(269)
        if entry[269] in (_BIDS, _OFFERS)
    }


async def _until_told(reader: Client, req_id: str, wanted: dict[int, str]) -> None:
    """Read increments until one of this subscription has an entry with these values."""
    while True:
        message = await reader.next()
        if message[35] == "X" and message[262] == req_id:
            entries = message.entries(279)
            if any(wanted.items() <= entry.items() for entry in entries):
                return


SCENARIOS = [
    snapshot_of_a_book,
    subscription_follows_the_book,
    refused_subscriptions,
    instruments_and_phases,
    opening_auction,
]
