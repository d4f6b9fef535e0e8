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
from gateway.reservations import price_market, reserve_replace, with_order
from gateway.symbol_texts import SymbolTable
from router.open_orders import BestPrices, OpenOrder, read_best_prices, read_open_orders
from router.redis_client import RedisLink


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
        wanted = [(c.account, r.symbol, c.orig_cl_ord_id) for _, r, c in orders]
        found = await read_open_orders(self._link, wanted) if wanted else []
        for (entry, request, content), order in zip(orders, found, strict=True):
            self._set(entry, request, self._with_order(request.symbol, content, order))
        for entry, request in incomplete:
            if isinstance(request.content, NewOrder):
                prices = best[request.symbol]
                priced = self._priced(entry, request.symbol, request.content, prices)
                self._set(entry, request, priced)

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

    def _with_order(
        self, symbol: str, content: ReplaceOrder | CancelRejected, order: OpenOrder | None
    ) -> NewCommand | Refusal:
        if isinstance(content, CancelRejected):
            return with_order(content, order)
        return reserve_replace(content, self._symbols.by_name[symbol].rules, order)

    def _set(self, entry: Inbound, request: Request, content: NewCommand | Refusal) -> None:
        entry.request = Request(request.symbol, content)
        entry.item = self._encoder.make_item(entry, entry.request)
