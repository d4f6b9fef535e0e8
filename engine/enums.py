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
    """OrdType (40). MARKET and STOP carry the protection price that their gateway gave them."""

    MARKET = 1
    LIMIT = 2
    STOP = 3
    """A market order once the last trade has reached its stop price; until then it waits."""
    STOP_LIMIT = 4
    """A limit order once the last trade has reached its stop price; until then it waits."""


class TimeInForce(IntEnum):
    """TimeInForce (59)."""

    DAY = 0
    """Until the symbol is closed."""
    GTC = 1
    OPG = 2
    """At the opening: for the opening auction only."""
    IOC = 3
    FOK = 4
    GTD = 6
    """Until ExpireTime (126)."""


class SelfTradePrevention(IntEnum):
    """What happens when an order would trade with its own account (tag 7928, per order)."""

    NONE = 0
    CANCEL_NEWEST = 1
    CANCEL_OLDEST = 2
    CANCEL_BOTH = 3


class OrdStatus(IntEnum):
    """OrdStatus (39): the FIX digit, or the number of the FIX letter in hexadecimal.

    Engines do not know the pending ones: gateways say them of what is on its way to an engine.
    """

    NEW = 0
    PARTIALLY_FILLED = 1
    FILLED = 2
    CANCELED = 4
    REJECTED = 8
    PENDING_NEW = 10
    EXPIRED = 12
    PENDING_REPLACE = 14


class Liquidity(IntEnum):
    """LastLiquidityInd (851): who was resting."""

    MAKER = 1
    TAKER = 2
    AUCTION = 4
    """Both were, and pay the maker's rate. FIX 4.4 has no value for it: 851 is left out."""


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
    MASS_CANCEL = 4
    """Its owner asked for all of them (35=q): 150=4, the request's ClOrdID and OrigClOrdID."""
    DISCONNECTED = 5
    """Cancel on disconnect: unsolicited, 150=4 with 378=99."""
    TIME_EXPIRED = 6
    """ExpireTime has come, or the close for a DAY order, or the opening is over: 150=C."""
    PRICE_BAND = 7
    """A stop order was triggered with a limit outside the price band: 150=4 with 378=8."""


class OrdRejReason(IntEnum):
    """OrdRejReason (103)."""

    UNKNOWN_SYMBOL = 1
    EXCHANGE_CLOSED = 2
    EXCEEDS_LIMIT = 3
    TOO_LATE_TO_ENTER = 4
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
    DELIVER_TO_FIRM_NOT_AVAILABLE = 7


class TradingPhase(IntEnum):
    """What a symbol takes. A new symbol begins in CONTINUOUS."""

    CONTINUOUS = 0
    """Everything; orders match as they come."""
    PRE_OPEN = 1
    """Orders that can rest, replaces and cancels; nothing matches yet."""
    OPENING_AUCTION = 2
    """What PRE_OPEN gathered is matched at one price; cancels only."""
    HALTED = 3
    """Nothing but status requests."""
    CANCEL_ONLY = 4
    """Cancels and status requests."""
    CLOSED = 5
    """Cancels and status requests; DAY orders have expired."""


class PhaseReason(IntEnum):
    """Why a symbol is in another phase now."""

    OPERATOR = 0
    SCHEDULE = 1
    PRICE_BAND = 2
    """An order would have traded outside the price band."""
    AUCTION_DONE = 3
    EXPIRY_DONE = 4
    """The opening waited until what was to end before it had ended."""


class MassCancelRequestType(IntEnum):
    """MassCancelRequestType (530) and, where the request is done, MassCancelResponse (531).

    SECURITY and ALL are done; the others are named only to refuse them.
    """

    REJECTED = 0
    """As a response only."""
    SECURITY = 1
    UNDERLYING = 2
    PRODUCT = 3
    CFI_CODE = 4
    SECURITY_TYPE = 5
    TRADING_SESSION = 6
    ALL = 7


class MassCancelRejectReason(IntEnum):
    """MassCancelRejectReason (532)."""

    NOT_SUPPORTED = 0
    UNKNOWN_SECURITY = 1
    OTHER = 99
