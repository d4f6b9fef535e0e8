"""Enumerations of commands and events; the values are FIX 4.4's where FIX has them. Pure.

All are integers, so that they cost one byte in streams and journals and compare fast.
"""

from __future__ import annotations

from enum import IntEnum


class Side(IntEnum):
    """Side (54)."""

    BUY = 1
    SELL = 2


class OrdType(IntEnum):
    """OrdType (40). A market order carries the protection price that its gateway gave it."""

    MARKET = 1
    LIMIT = 2


class TimeInForce(IntEnum):
    """TimeInForce (59). DAY rests like GTC until there are trading days."""

    DAY = 0
    GTC = 1
    IOC = 3
    FOK = 4


class SelfTradePrevention(IntEnum):
    """What happens when an order would trade with its own account (tag 7928, per order)."""

    NONE = 0
    CANCEL_NEWEST = 1
    CANCEL_OLDEST = 2
    CANCEL_BOTH = 3


class OrdStatus(IntEnum):
    """OrdStatus (39) as the engine knows it; every one of these is the FIX digit."""

    NEW = 0
    PARTIALLY_FILLED = 1
    FILLED = 2
    CANCELED = 4
    REJECTED = 8
    EXPIRED = 12
    """FIX writes C."""


class Liquidity(IntEnum):
    """LastLiquidityInd (851): who was resting."""

    MAKER = 1
    TAKER = 2


class CancelReason(IntEnum):
    """Why an order left the book, or never reached it, with quantity left."""

    REQUESTED = 0
    """Its owner asked: 150=4 with OrigClOrdID."""
    EXPIRED = 1
    """The rest of an IOC, FOK or market order: 150=C."""
    SELF_TRADE = 2
    """Self-trade prevention: unsolicited, 150=4 with 378=99."""
    USER_DISABLED = 3
    """An operator disabled the account: unsolicited, 150=4 with 378=99."""


class OrdRejReason(IntEnum):
    """OrdRejReason (103)."""

    BROKER_OPTION = 0
    UNKNOWN_SYMBOL = 1
    EXCHANGE_CLOSED = 2
    EXCEEDS_LIMIT = 3
    UNKNOWN_ORDER = 5
    DUPLICATE_ORDER = 6
    STALE_ORDER = 8
    UNSUPPORTED_CHARACTERISTIC = 11
    INCORRECT_QUANTITY = 13
    UNKNOWN_ACCOUNT = 15
    OTHER = 99


class CxlRejReason(IntEnum):
    """CxlRejReason (102)."""

    TOO_LATE = 0
    UNKNOWN_ORDER = 1
    BROKER_OPTION = 2
    DUPLICATE_CL_ORD_ID = 6
    OTHER = 99


class CxlRejResponseTo(IntEnum):
    """CxlRejResponseTo (434): which request is refused."""

    CANCEL = 1
    REPLACE = 2


class BusinessRejectReason(IntEnum):
    """BusinessRejectReason (380)."""

    OTHER = 0
    UNKNOWN_ID = 1
    UNKNOWN_SECURITY = 2
    UNSUPPORTED_MESSAGE_TYPE = 3
    APPLICATION_NOT_AVAILABLE = 4
    CONDITIONALLY_REQUIRED_FIELD_MISSING = 5
    NOT_AUTHORIZED = 6
