"""Stop, stop-limit, iceberg, timed, minimum and cash orders, as real clients send them."""

from __future__ import annotations

import time

from tests.interop.clients import Client
from tests.interop.stage import BUY, SELL, STOP, STOP_LIMIT, Stage
from tests.venue import utc_timestamp

_GTD_SOON_S = 2
_NS_PER_S = 1_000_000_000


async def stop_order_triggers_and_trades(stage: Stage) -> None:
    """A stop waits until the last trade reaches it, is told so, and trades as a market order."""
    maker, client = await stage.traders()
    await _trade_at(stage, maker, client, "10.00")
    ask = await stage.rest(maker, SELL, "9", "11.00")
    stop = stage.order(BUY, "4", ord_type=STOP, more=[(99, "11.00")])
    await client.send("D", stop)
    await client.expect("8", {11: stop[0][1], 150: "0", 39: "0", 40: "3", 99: "11.00", 636: "N"})
    await client.send("D", stage.order(BUY, "1", "11.00"))
    await client.expect("8", {150: "0"})
    await client.expect("8", {150: "F", 31: "11.00", 32: "1"})
    await client.expect("8", {11: stop[0][1], 150: "D", 39: "0", 636: "Y"})
    await client.expect("8", {11: stop[0][1], 150: "F", 39: "2", 31: "11.00", 32: "4"})
    for qty in ("1", "4"):
        await maker.expect("8", {11: ask, 150: "F", 32: qty})
    await stage.cancel_resting(maker, ask, SELL)


async def stop_limit_order_is_amended_and_rests(stage: Stage) -> None:
    """A stop-limit is amended while it waits; once triggered what does not trade rests."""
    maker, client = await stage.traders()
    await _trade_at(stage, maker, client, "10.00")
    stop = stage.order(SELL, "5", "9.00", ord_type=STOP_LIMIT, more=[(99, "9.50")])
    await client.send("D", stop)
    await client.expect("8", {11: stop[0][1], 150: "0", 40: "4", 99: "9.50", 44: "9.00", 636: "N"})
    amend = [
        *stage.cancel(stop[0][1], SELL),
        (40, STOP_LIMIT),
        (38, "6"),
        (44, "9.20"),
        (99, "9.40"),
    ]
    await client.send("G", amend)
    await client.expect(
        "8", {11: amend[0][1], 41: stop[0][1], 150: "5", 38: "6", 44: "9.20", 99: "9.40"}
    )
    await _trade_at(stage, maker, client, "9.40")
    await client.expect("8", {11: amend[0][1], 150: "D", 636: "Y"})
    await stage.cancel_resting(client, amend[0][1], SELL)


async def waiting_stop_is_asked_for_and_canceled(stage: Stage) -> None:
    """A stop that waits has a status, and can be canceled."""
    maker, client = await stage.traders()
    await _trade_at(stage, maker, client, "10.00")
    stop = stage.order(SELL, "5", ord_type=STOP, more=[(99, "9.00")])
    await client.send("D", stop)
    await client.expect("8", {150: "0", 636: "N"})
    await client.send("H", [(11, stop[0][1]), (55, stage.symbol), (54, SELL), (790, "ask-1")])
    await client.expect("8", {11: stop[0][1], 150: "I", 39: "0", 99: "9.00", 790: "ask-1"})
    await stage.cancel_resting(client, stop[0][1], SELL)


async def iceberg_is_refilled_at_the_back(stage: Stage) -> None:
    """An iceberg shows its floor; refilled, it stands behind who waited at the price."""
    maker, other = await stage.traders()
    taker = await stage.trader()
    iceberg = stage.order(SELL, "10", "10.00", more=[(111, "2")])
    await maker.send("D", iceberg)
    await maker.expect("8", {11: iceberg[0][1], 150: "0", 111: "2", 151: "10"})
    second = await stage.rest(other, SELL, "3", "10.00")
    await taker.send("D", stage.order(BUY, "6", "10.00"))
    await taker.expect("8", {150: "0"})
    for qty in ("2", "3", "1"):
        await taker.expect("8", {150: "F", 32: qty})
    await other.expect("8", {11: second, 150: "F", 39: "2", 32: "3"})
    await maker.expect("8", {11: iceberg[0][1], 150: "F", 32: "2", 151: "8"})
    await maker.expect("8", {11: iceberg[0][1], 150: "F", 32: "1", 151: "7"})
    await stage.cancel_resting(maker, iceberg[0][1], SELL)


async def good_till_date_expires(stage: Stage) -> None:
    """A GTD order leaves at its time though nothing else happens; a GTC order stays."""
    client = await stage.trader()
    until = utc_timestamp(time.time_ns() + _GTD_SOON_S * _NS_PER_S)
    timed = stage.order(BUY, "5", "10.00", more=[(59, "6"), (126, until)])
    await client.send("D", timed)
    await client.expect("8", {11: timed[0][1], 150: "0", 59: "6", 126: until})
    stays = stage.order(BUY, "5", "10.00", more=[(59, "1")])
    await client.send("D", stays)
    await client.expect("8", {11: stays[0][1], 150: "0", 59: "1"})
    await client.expect("8", {11: timed[0][1], 150: "C", 39: "C", 151: "0"})
    past = stage.order(BUY, "5", "10.00", more=[(59, "6"), (126, "20240101-00:00:00.000")])
    await client.send("D", past)
    await client.expect("8", {11: past[0][1], 150: "8", 103: "4"})
    await stage.cancel_resting(client, stays[0][1], BUY)


async def minimum_quantity_or_nothing(stage: Stage) -> None:
    """With less than MinQty to be had at once the order is killed; with enough it trades."""
    maker, taker = await stage.traders()
    await stage.rest(maker, SELL, "5", "10.00")
    await taker.send("D", stage.order(BUY, "10", "10.00", more=[(110, "6"), (59, "3")]))
    await taker.expect("8", {150: "0", 110: "6"})
    await taker.expect("8", {150: "C", 39: "C", 14: "0", 151: "0"})
    await taker.send("D", stage.order(BUY, "10", "10.00", more=[(110, "5"), (59, "3")]))
    await taker.expect("8", {150: "0", 110: "5"})
    await taker.expect("8", {150: "F", 32: "5", 151: "5"})
    await taker.expect("8", {150: "C", 14: "5", 151: "0"})
    await maker.expect("8", {150: "F", 32: "5", 39: "2"})


async def cash_order_spends_an_amount(stage: Stage) -> None:
    """A market order for cash buys what that pays for, fees included."""
    maker, taker = await stage.traders()
    ask = await stage.rest(maker, SELL, "50", "10.00")
    await taker.send("D", stage.order(BUY, "", more=[(152, "105")]))
    accepted = await taker.expect("8", {150: "0", 38: "10", 152: "105.00"})
    assert accepted[40] == "1", accepted
    await taker.expect("8", {150: "F", 39: "2", 31: "10.00", 32: "10"})
    await maker.expect("8", {11: ask, 150: "F", 32: "10"})
    await taker.send("D", stage.order(BUY, "", more=[(152, "1")]))
    await taker.expect("8", {150: "8", 103: "99"})
    await stage.cancel_resting(maker, ask, SELL)


async def _trade_at(stage: Stage, maker: Client, taker: Client, price: str) -> None:
    """Make this the price of the last trade."""
    ask = await stage.rest(maker, SELL, "1", price)
    await taker.send("D", stage.order(BUY, "1", price))
    await taker.expect("8", {150: "0"})
    await taker.expect("8", {150: "F", 31: price})
    await maker.expect("8", {11: ask, 150: "F", 31: price})


SCENARIOS = [
    stop_order_triggers_and_trades,
    stop_limit_order_is_amended_and_rests,
    waiting_stop_is_asked_for_and_canceled,
    iceberg_is_refilled_at_the_back,
    good_till_date_expires,
    minimum_quantity_or_nothing,
    cash_order_spends_an_amount,
]
