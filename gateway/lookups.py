"""What requests need from Redis before admission: best prices and the account's open orders."""

from __future__ import annotations

from collections.abc import Sequence

from engine.commands import NewOrder, ReplaceOrder
from engine.enums import OrdRejReason
from engine.events import CancelRejected, OrderRejected
from gateway.account_limits import problem_of_order_value
from gateway.encoder import Encoder
from gateway.pipeline import Inbound
from gateway.refusals import NewCommand, Refusal, Request, order_rejected
from gateway.reservations import (
    KnownOrder,
    expected_of,
    price_market,
    reserve_replace,
    settled_as,
    with_order,
)
from gateway.symbol_texts import SymbolTable
from router.open_orders import BestPrices, read_best_prices, read_open_orders
from router.redis_client import RedisLink

_AboutOrder = tuple[Inbound, Request, ReplaceOrder | CancelRejected]


class Lookups:
    """Complete the requests of a batch, with at most two reads.

    Args:
        link: accounts database, for reading.
        symbols: rules and texts of every symbol.
        encoder: makes their items.
        protection_ppm: of market orders, see ``GatewaySettings``.
    """

    def __init__(
        self, link: RedisLink, symbols: SymbolTable, encoder: Encoder, *, protection_ppm: int
    ) -> None:
        self._link = link
        self._symbols = symbols
        self._encoder = encoder
        self._protection_ppm = protection_ppm

    async def complete(self, entries: Sequence[Inbound]) -> None:
        """Give every entry that has none its item.

        Raises:
            RedisUnavailable: no reply; nothing is completed.
        """
        incomplete = [
            (entry, entry.request)
            for entry in entries
            if entry.item is None and entry.request is not None
        ]
        if not incomplete:
            return
        markets = {r.symbol: None for _, r in incomplete if isinstance(r.content, NewOrder)}
        best = await read_best_prices(self._link, list(markets))
        orders = [
            (entry, request, request.content)
            for entry, request in incomplete
            if isinstance(request.content, ReplaceOrder | CancelRejected)
        ]
        await self._complete_with_orders(orders)
        for entry, request in incomplete:
            if isinstance(request.content, NewOrder):
                prices = best[request.symbol]
                priced = self._priced(entry, request.symbol, request.content, prices)
                self._set(entry, request, priced)

    async def _complete_with_orders(self, orders: Sequence[_AboutOrder]) -> None:
        """Complete, in their order, what is about an order that is open or on its way.

        What is on its way is noted before the read: what is answered meanwhile has been settled,
        but maybe not when Redis was read.
        """
        if not orders:
            return
        wanted = [(c.account, r.symbol, c.orig_cl_ord_id) for _, r, c in orders]
        before = [
            _pending(entry, symbol, orig)
            for (entry, _, _), (_, symbol, orig) in zip(orders, wanted, strict=True)
        ]
        found = await read_open_orders(self._link, wanted)
        for (entry, request, content), order, was in zip(orders, found, before, strict=True):
            symbol = request.symbol
            if order is not None:
                known: KnownOrder | None = settled_as(order)
            else:
                known = _pending(entry, symbol, content.orig_cl_ord_id) or was
            if isinstance(content, CancelRejected):
                self._set(entry, request, with_order(content, known))
                continue
            key = symbol, content.cl_ord_id
            rules = self._symbols.by_name[symbol].rules
            if key in entry.connection.in_flight:
                entry.connection.in_flight[key] = expected_of(content, rules, known)
            self._set(entry, request, reserve_replace(content, rules, known))

    def _priced(
        self, entry: Inbound, symbol: str, order: NewOrder, best: BestPrices
    ) -> NewOrder | OrderRejected:
        texts = self._symbols.by_name[symbol]
        priced = price_market(order, texts, best, protection_ppm=self._protection_ppm)
        if isinstance(priced, OrderRejected):
            return priced
        problem = problem_of_order_value(entry.connection.limits, texts, priced)
        if problem is None:
            return priced
        assert isinstance(problem.reason, OrdRejReason), "Invariant: limits have a code of orders"
        return order_rejected(order, problem.text, problem.reason)

    def _set(self, entry: Inbound, request: Request, content: NewCommand | Refusal) -> None:
        entry.request = self._encoder.ask_first(entry, Request(request.symbol, content))
        entry.item = self._encoder.make_item(entry, entry.request)


def _pending(entry: Inbound, symbol: str, cl_ord_id: str) -> KnownOrder | None:
    return entry.connection.in_flight.get((symbol, cl_ord_id))
