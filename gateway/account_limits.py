"""The limits of one account, and the checks of its orders against them.

Nothing is read here: settings and counts come as arguments. A session reads its account's limits at
logon, and again when an operator changes them. Cancels, status requests and mass requests are never
limited.

    limit               what counts                                          D         G
    max_open_orders     open orders, and new ones that nobody has answered   103=3     -
    max_order_value     price × OrderQty, or CashOrderQty, in quote units    103=3     102=99
    orders_per_s        orders and replaces; at most ``orders_per_s_max``    103=99    102=99
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.commands import NewOrder, ReplaceOrder
from engine.enums import OrdRejReason
from gateway.refusals import Problem
from gateway.symbol_texts import SymbolTexts
from router.user_settings import UserSettings


class AccountLimits(msgspec.Struct, frozen=True):
    """What an account may do; None, or an asset that is not named: no limit of its own.

    Attributes:
        max_open_orders: orders that may be open at once, over all symbols.
        max_order_value: quote asset → the largest value of one order, in the asset's smallest unit,
            without fees.
        orders_per_s: orders and replaces per second.
    """

    max_open_orders: int | None = None
    max_order_value: Mapping[str, int] = {}
    orders_per_s: int | None = None


NO_LIMITS = AccountLimits()


def limits_of(settings: UserSettings) -> AccountLimits:
    """Return the limits among a user's settings; NO_LIMITS itself where there are none."""
    limits = AccountLimits(
        settings.max_open_orders, settings.max_order_value, settings.orders_per_s
    )
    return NO_LIMITS if limits == NO_LIMITS else limits


def rate_of(limits: AccountLimits, *, orders_per_s_max: int) -> int:
    """Return how many orders and replaces per second the account may send."""
    own = limits.orders_per_s
    return orders_per_s_max if own is None else min(own, orders_per_s_max)


def problem_of_open_orders(
    limits: AccountLimits, *, open_orders: int, unanswered: int
) -> Problem | None:
    """Check that the account may have one more open order.

    Args:
        limits: of the account.
        open_orders: that the account has, as far as its session has been told.
        unanswered: new orders on their way to an engine.
    """
    most = limits.max_open_orders
    if most is None or open_orders + unanswered < most:
        return None
    text = f"Open orders: at most {most} of this account"
    return Problem(OrdRejReason.EXCEEDS_LIMIT, text)


def problem_of_order_value(
    limits: AccountLimits, texts: SymbolTexts, order: NewOrder | ReplaceOrder
) -> Problem | None:
    """Check the value of an order that has its price.

    Args:
        limits: of the account.
        texts: of the order's symbol.
        order: with the price that it may trade at worst.
    """
    rules = texts.rules
    most = limits.max_order_value.get(rules.quote)
    if most is None:
        return None
    cash = order.conditions.cash if order.conditions is not None else 0
    value = cash or rules.notional(order.price_ticks, order.qty_lots)
    if value <= most:
        return None
    at_most, received = (texts.amounts.text(amount).decode() for amount in (most, value))
    text = f"Order value: at most {at_most} {rules.quote} of this account, received {received}"
    return Problem(OrdRejReason.EXCEEDS_LIMIT, text)
