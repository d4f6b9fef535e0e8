"""Trades of an output: of takers, and of auctions, in order."""

from __future__ import annotations

from engine.enums import Liquidity, Side
from engine.trades import Trade, trades_of
from tests.market_events import TS_US, accepted, filled, output, trade

BUY, SELL = Side.BUY, Side.SELL


def test_trade_names_price_quantity_and_the_side_that_took() -> None:
    events = [
        accepted(6, BUY, 103, 7),
        *trade(6, 3, BUY, 103, 4),
        *trade(6, 4, BUY, 104, 3, index=1),
    ]
    assert trades_of(output(6, *events)) == [
        Trade(6, 0, TS_US, 103, 4, BUY),
        Trade(6, 1, TS_US, 104, 3, BUY),
    ]


def test_auction_has_one_trade_for_two_fills_and_nobody_took() -> None:
    events = []
    for number, (bid, ask) in enumerate(((2, 3), (2, 4))):
        both = {"fill": 2, "liquidity": Liquidity.AUCTION, "last_ticks": 101, "trade": number}
        events.append(filled(bid, BUY, 102, leaves=2 - 2 * number, **both))
        events.append(filled(ask, SELL, 100, leaves=0, **both))
    assert trades_of(output(9, *events)) == [
        Trade(9, 0, TS_US, 101, 2, None),
        Trade(9, 1, TS_US, 101, 2, None),
    ]
