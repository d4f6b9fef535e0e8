"""The business checks of orders and replaces against the rules of their symbol. Pure.

Most orders are plain: market or limit, without conditions. Those that are not take a way of their
own, so that they cost the others nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.commands import OrderConditions
from engine.enums import OrdRejReason, OrdType
from gateway.fix_tags import (
    TAG_ACCOUNT,
    TAG_CASH_ORDER_QTY,
    TAG_CURRENCY,
    TAG_EXEC_INST,
    TAG_ORD_TYPE,
    TAG_ORDER_ID,
    TAG_PRICE,
    TAG_SIDE,
    TAG_SYMBOL,
    TAG_TIME_IN_FORCE,
)
from gateway.order_conditions import CONDITION_TAGS, ConditionReader, problem_of_combination
from gateway.order_kinds import KINDS, PLAIN_KINDS, STOPS, Kind, key_of, problem_of_kind
from gateway.order_values import (
    Fields,
    problem_of_notional,
    protected_price,
    read_cash,
    read_price,
    read_quantity,
    read_stop,
    unsupported,
)
from gateway.refusals import Origin, Problem, readable
from gateway.symbol_texts import SymbolTexts

_MARKET = OrdType.MARKET
_NONE = OrderConditions()


class Terms(NamedTuple):
    """What an order and a replace have in common."""

    kind: Kind
    price_ticks: int
    qty_lots: int
    conditions: OrderConditions | None = None


class TermsReader:
    """Read what orders and replaces ask for.

    Args:
        protection_ppm: how far beyond its stop price a stop order may trade, see
            ``GatewaySettings.market_protection_ppm``.
    """

    def __init__(self, *, protection_ppm: int) -> None:
        self._protection_ppm = protection_ppm
        self._conditions = ConditionReader()

    def read(self, fields: Fields, texts: SymbolTexts, received_ns: int) -> Terms | Problem:
        """Return the terms of an order, or the first thing that is wrong with them.

        A market order has no price yet (0), one by CashOrderQty (152) no quantity either (0). A
        stop order has the worst price at which it may trade once it is triggered.

        Args:
            fields: of the message.
            texts: the symbol's rules and texts.
            received_ns: when the message came.
        """
        get = fields.get
        if get(TAG_CURRENCY, texts.quote) != texts.quote:
            return unsupported(TAG_CURRENCY, texts.rules.quote, fields)
        kind = PLAIN_KINDS.get(
            (get(TAG_SIDE), get(TAG_ORD_TYPE), get(TAG_TIME_IN_FORCE), get(TAG_EXEC_INST))
        )
        if kind is None or not CONDITION_TAGS.isdisjoint(fields):
            return self._read_conditional(fields, texts, received_ns)
        qty_lots = read_quantity(fields, texts)
        if isinstance(qty_lots, Problem):
            return qty_lots
        if kind.ord_type is _MARKET:
            if TAG_PRICE in fields:
                return unsupported(TAG_PRICE, "none on a market order", fields)
            return Terms(kind, 0, qty_lots)
        price_ticks = read_price(fields, texts)
        if isinstance(price_ticks, Problem):
            return price_ticks
        problem = problem_of_notional(texts, price_ticks, qty_lots)
        return problem or Terms(kind, price_ticks, qty_lots)

    def _read_conditional(
        self, fields: Fields, texts: SymbolTexts, received_ns: int
    ) -> Terms | Problem:
        kind = KINDS.get(key_of(fields))
        if kind is None:
            return problem_of_kind(fields)
        problem = problem_of_combination(fields, kind)
        if problem is not None:
            return problem
        amounts = _read_amounts(fields, texts)
        if isinstance(amounts, Problem):
            return amounts
        qty_lots, cash = amounts
        prices = self._read_prices(fields, texts, kind)
        if isinstance(prices, Problem):
            return prices
        stop_ticks, price_ticks = prices
        if kind.ord_type is not _MARKET:
            expected_ticks = stop_ticks if kind.ord_type is OrdType.STOP else price_ticks
            problem = problem_of_notional(texts, expected_ticks, qty_lots)
            if problem is not None:
                return problem
        conditions = self._conditions.read(
            fields,
            texts,
            kind,
            stop_ticks=stop_ticks,
            qty_lots=qty_lots,
            cash=cash,
            received_ns=received_ns,
        )
        if isinstance(conditions, Problem):
            return conditions
        return Terms(kind, price_ticks, qty_lots, conditions if conditions != _NONE else None)

    def _read_prices(
        self, fields: Fields, texts: SymbolTexts, kind: Kind
    ) -> tuple[int, int] | Problem:
        """Return the stop price (0 = none) and the worst price at which the order may trade."""
        ord_type = kind.ord_type
        stop_ticks: int | Problem = read_stop(fields, texts) if ord_type in STOPS else 0
        if isinstance(stop_ticks, Problem):
            return stop_ticks
        if ord_type is _MARKET:
            return 0, 0
        if ord_type is OrdType.STOP:
            ppm = self._protection_ppm
            return stop_ticks, protected_price(
                texts.rules, kind.side, stop_ticks, protection_ppm=ppm
            )
        price_ticks = read_price(fields, texts)
        return price_ticks if isinstance(price_ticks, Problem) else (stop_ticks, price_ticks)


def read_order_seq(fields: Fields) -> int | Problem:
    """Return the number in OrderID (37), ``{symbol}-{number}``; 0 when the field is absent."""
    order_id = fields.get(TAG_ORDER_ID)
    if order_id is None:
        return 0
    symbol, _, number = order_id.rpartition(b"-")
    if symbol != fields[TAG_SYMBOL] or not number.isdigit() or not 0 < int(number[:20]) < 2**63:
        given = readable(fields[TAG_SYMBOL])
        text = f"OrderID (37): no order {readable(order_id)} in {given}"
        return Problem(OrdRejReason.UNKNOWN_ORDER, text)
    return int(number[:20])


def unknown_symbol(fields: Fields) -> Problem:
    """Return the refusal of a symbol that the venue does not have."""
    text = f"Symbol (55): unknown symbol {readable(fields[TAG_SYMBOL])}"
    return Problem(OrdRejReason.UNKNOWN_SYMBOL, text)


def problem_of_account(fields: Fields, origin: Origin) -> Problem | None:
    """Check that Account (1), where given, is the account of the session."""
    account = fields.get(TAG_ACCOUNT)
    if account is None or account == b"%d" % origin.account:
        return None
    text = f"Account (1): expected {origin.account}, received {readable(account)}"
    return Problem(OrdRejReason.UNKNOWN_ACCOUNT, text)


def _read_amounts(fields: Fields, texts: SymbolTexts) -> tuple[int, int] | Problem:
    """Return the quantity and the cash of an order; one of them is 0."""
    if TAG_CASH_ORDER_QTY in fields:
        cash = read_cash(fields, texts)
        return cash if isinstance(cash, Problem) else (0, cash)
    qty_lots = read_quantity(fields, texts)
    return qty_lots if isinstance(qty_lots, Problem) else (qty_lots, 0)
