"""The opening auction: one price for all that is crossed in a book. Pure.

Theory. At a price p the buyers want D(p), what is bid at p or higher, and the sellers offer S(p),
what is asked at p or lower; min(D, S) can trade. The auction's price is the one at which

1. the most can trade,
2. then the least is left over on the heavier side: |D - S|,
3. then nearest to the reference, the last trade. Without a last trade, the lowest of them.

D falls and S rises with the price, so the prices that 1 and 2 leave are neighbours, and one of them
is the nearest. D and S change only at prices of orders, so each of those and each gap between two
is one candidate; of a gap the price nearest to the reference is taken: any tick may be the price.

Who trades: bids from the highest down and asks from the lowest up, oldest first at one price, each
against the first of the other side, until one side has nothing left at the auction's price or
better. Because the most that can trade has traded then, the book is not crossed any more: were a
bid left at or above an ask, then both would be on the same side of the auction's price, and more
could have traded there. So an auction may stop after any trade and go on later, from its price and
the book alone; what is canceled meanwhile does not trade. It may leave a cross beyond the price
then, which is an auction of its own.

What an iceberg order does not show counts in D and S, and trades after what is shown at its price.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

from engine.book import BookSide, LimitBook
from engine.level import OrderT


class Uncross(NamedTuple):
    """What an auction comes to: its price in ticks, and how many lots can trade there."""

    price_ticks: int
    volume_lots: int


def find_price(
    bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], reference_ticks: int
) -> Uncross | None:
    """Return the price and volume of an auction, or None where nothing crosses.

    Args:
        bids: Price in ticks and quantity in lots, each price once, highest first. Those below the
            lowest ask do not matter.
        asks: Likewise, lowest first.
        reference_ticks: The last trade; 0 where there was none.
    """
    wanted, offered = dict(bids), dict(asks)
    if not wanted or not offered or max(wanted) < min(offered):
        return None
    prices = sorted(wanted.keys() | offered.keys())
    demand, supply = sum(wanted.values()), 0
    rated: list[tuple[int, int, int, int]] = []
    gap_low = prices[0]
    for price in prices:
        if gap_low < price:
            # Bids at this price take part below it already, its asks do not.
            rated.append(_rate(demand, supply, gap_low, price - 1, reference_ticks))
        supply += offered.get(price, 0)
        rated.append(_rate(demand, supply, price, price, reference_ticks))
        demand -= wanted.get(price, 0)
        gap_low = price + 1
    volume, _, _, best = min(rated)
    return Uncross(best, -volume)


def crossed(
    book: LimitBook[OrderT],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the bids and asks of a book that cross, as `find_price` takes them.

    Looks at every order that crosses: some 0.3 µs each, in one input.
    """
    best_bid, best_ask = book.best_bid(), book.best_ask()
    if best_bid is None or best_ask is None or best_bid < best_ask:
        return [], []
    return _levels(book.bids, -best_ask), _levels(book.asks, best_bid)


def _levels(side: BookSide[OrderT], limit_key: int) -> list[tuple[int, int]]:
    # The prices of one side down to a key, with all that their orders have, hidden or not.
    return [
        (level.price_ticks, sum(one.leaves_qty_lots + one.hidden_lots for one in level.orders()))
        for level in takewhile(lambda level: level.key <= limit_key, side.walk())
    ]


def _rate(
    demand: int, supply: int, low: int, high: int, reference_ticks: int
) -> tuple[int, int, int, int]:
    # The best of the prices from low to high, between which D and S stay as they are, and before
    # it what it is judged by; less is better.
    nearest = min(max(reference_ticks, low), high)
    distance = abs(nearest - reference_ticks) if reference_ticks else 0
    return -min(demand, supply), abs(demand - supply), distance, nearest


def trades(book: LimitBook[OrderT], price_ticks: int) -> Iterator[tuple[OrderT, OrderT, int]]:
    """Take one trade after the other out of a book, as far as the auction's price goes.

    Yields:
        The bid, the ask and the lots that they trade. Both have been lowered by them; what has no
        leaves then has left the book. The caller may put it back, at the end of its price's queue,
        and may stop between two trades.
    """
    bids, asks = book.bids, book.asks
    while True:
        bid, ask = _first(bids, price_ticks), _first(asks, price_ticks)
        if bid is None or ask is None:
            return
        lots = min(bid.leaves_qty_lots, ask.leaves_qty_lots)
        _lower(book, bid, lots)
        _lower(book, ask, lots)
        yield bid, ask, lots


def _first(side: BookSide[OrderT], price_ticks: int) -> OrderT | None:
    # The order that is next on its side; None where nothing is left at the price or better.
    level = side.live_best()
    return level.head if level.key <= price_ticks * side.sign else None


def _lower(book: LimitBook[OrderT], order: OrderT, lots: int) -> None:
    if lots < order.leaves_qty_lots:
        book.reduce(order, lots)
        return
    book.cancel(order.order_id)
    order.leaves_qty_lots = 0
