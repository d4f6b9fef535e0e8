"""Rows: one event or ledger entry becomes one line of COPY text per table. Pure.

A line holds the columns of its table in the order that stands beside its function, separated by
tabs. Decimals are written as ``{steps × step's digits}e-{places}``: PostgreSQL reads ``500012e-2``
as the NUMERIC 5000.12, exactly, which spares the divisions that decimal text would cost here (a
writer makes some ten decimals per order). Executions, the most rows, have no decimals and are not
lines but rows of COPY's binary format (``execution_rows.py``).

Source: PostgreSQL documentation, COPY, "Text Format"; Numeric input, section 4.1.2.6.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from engine.commands import OrderConditions
from engine.enums import (
    CancelReason,
    Liquidity,
    OrdType,
    PhaseReason,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.events import (
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderTriggered,
    PhaseChanged,
    SymbolDefined,
)
from engine.ledger_entries import Deposited, UserCreated, Withdrawn
from persistence.execution_rows import ExecutionRows
from persistence.table import Table

OrderEvent = (
    OrderAccepted | OrderRejected | OrderFilled | OrderCanceled | OrderReplaced | OrderTriggered
)
OpeningEvent = OrderAccepted | OrderRejected

NULL = "\\N"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SIDES = {Side.BUY: "buy", Side.SELL: "sell"}
ORDER_TYPES = {
    OrdType.MARKET: "market",
    OrdType.LIMIT: "limit",
    OrdType.STOP: "stop",
    OrdType.STOP_LIMIT: "stop_limit",
}
TIMES_IN_FORCE = {
    TimeInForce.DAY: "day",
    TimeInForce.GTC: "gtc",
    TimeInForce.OPG: "opg",
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "fok",
    TimeInForce.GTD: "gtd",
}
PHASES = {phase: phase.name.lower() for phase in TradingPhase}
PHASE_REASONS = {reason: reason.name.lower() for reason in PhaseReason}
_EXPIRED = (CancelReason.EXPIRED, CancelReason.TIME_EXPIRED)


SYMBOL_CHANGES = Table(
    "symbol_changes",
    (
        *("symbol", "base", "quote", "base_scale", "quote_scale", "tick_size", "lot_size"),
        *("maker_fee_ppm", "taker_fee_ppm", "rules_version", "incarnation"),
    ),
)
USERS = Table(
    "users", ("id", "username", "password_hash", "sender_comp_id", "created_at", "disabled")
)
USER_CHANGES = Table("user_changes", ("id", "password_hash", "disabled"))
USER_SETTINGS = Table(
    "user_setting_changes", ("user_id", "field", "value", "position", "changed_at")
)
TRANSFERS = Table(
    "transfers", ("position", "user_id", "kind", "asset", "amount", "ref", "created_at")
)
ORDERS = Table(
    "orders",
    (
        *("id", "symbol", "seq", "user_id", "side", "post_only", "cl_ord_id", "type"),
        *("time_in_force", "price", "quantity", "remaining_quantity", "filled_quantity", "status"),
        *("updated_at", "created_at", "reject_reason", "reject_text"),
    ),
)
ORDER_CHANGES = Table(
    "order_changes",
    (
        *("id", "cl_ord_id", "type", "time_in_force", "price", "quantity", "remaining_quantity"),
        *("filled_quantity", "status", "updated_at"),
    ),
)
ORDER_CONDITIONS = Table(
    "order_condition_changes",
    (
        *("order_id", "stop_price", "display_quantity", "min_quantity", "expire_at", "cash"),
        "triggered_at",
    ),
)
PHASE_CHANGES = Table(
    "phase_changes",
    (
        *("symbol", "seq", "index", "phase", "reason", "auction_price", "auction_quantity"),
        "changed_at",
    ),
)
TRADES = Table(
    "trades",
    (
        *("symbol", "seq", "index", "maker_order_id", "taker_order_id", "maker_user_id"),
        *("taker_user_id", "taker_side", "price", "quantity", "maker_fee", "taker_fee"),
        *("executed_at", "auction"),
    ),
)
BALANCE_CHANGES = Table("balance_changes", ("user_id", "asset", "available", "held"))


class SymbolFormat:
    """How integers of one symbol become NUMERIC text: factors and exponents of tick, lot, fee.

    Args:
        symbol: the symbol's name.
        base, quote: asset names.
        base_scale, quote_scale: amounts are whole numbers of 10^-scale.
        tick_size, lot_size: plain decimal text.
    """

    __slots__ = (
        *("base", "base_scale", "executions", "fee_exponent", "lot_exponent", "lot_factor"),
        *(
            "lot_size",
            "quote",
            "quote_scale",
            "symbol",
            "tick_exponent",
            "tick_factor",
            "tick_size",
        ),
    )

    def __init__(
        self,
        *,
        symbol: str,
        base: str,
        quote: str,
        base_scale: int,
        quote_scale: int,
        tick_size: str,
        lot_size: str,
    ) -> None:
        self.symbol = symbol
        self.base = base
        self.quote = quote
        self.base_scale = base_scale
        self.quote_scale = quote_scale
        self.tick_size = tick_size
        self.lot_size = lot_size
        self.tick_factor, self.tick_exponent = _factor_and_exponent(tick_size)
        self.lot_factor, self.lot_exponent = _factor_and_exponent(lot_size)
        self.fee_exponent = scale_exponent(quote_scale)
        self.executions = ExecutionRows(symbol)

    @classmethod
    def of_event(cls, event: SymbolDefined) -> SymbolFormat:
        """Return the format that a symbol's rules imply."""
        rules = event.rules
        return cls(
            symbol=rules.symbol,
            base=rules.base,
            quote=rules.quote,
            base_scale=rules.base_scale,
            quote_scale=rules.quote_scale,
            tick_size=rules.tick_size,
            lot_size=rules.lot_size,
        )


def _factor_and_exponent(step: str) -> tuple[int, str]:
    """Return ("0.05" →) 5 and "e-2": a multiple n of the step is then written f"{5 * n}e-2"."""
    places = len(step.partition(".")[2])
    return int(Decimal(step).scaleb(places)), scale_exponent(places)


def scale_exponent(scale: int) -> str:
    """Return the suffix that makes NUMERIC text of a whole number of 10^-scale."""
    return f"e-{scale}" if scale else ""


def timestamp_text(ts_us: int) -> str:
    """Return µs since 1970 UTC as timestamptz text, exactly."""
    return (_EPOCH + timedelta(microseconds=ts_us)).isoformat(sep=" ")


def copy_text(text: str) -> str:
    """Return text as a field of COPY: backslashes and control characters escaped.

    PostgreSQL's text cannot hold U+0000, which no input of ours contains on purpose; it becomes
    U+FFFD, so that nobody's ClOrdID can stop the writer.
    """
    if text.isprintable() and "\\" not in text:
        return text
    text = text.replace("\0", "\ufffd").replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def order_status(event: OrderEvent) -> str:
    """Return the column ``orders.status`` as it is after the event."""
    # By type, not isinstance: the events' metaclass makes a miss of isinstance slow.
    if type(event) is OrderFilled:
        return "partially_filled" if event.leaves_lots else "filled"
    if type(event) is OrderCanceled:
        return "expired" if event.reason in _EXPIRED else "canceled"
    if type(event) is OrderRejected:
        return "rejected"
    return "partially_filled" if event.cum_lots else "new"


def _order_state(of: SymbolFormat, event: OrderEvent, ts: str) -> str:
    """Render cl_ord_id to updated_at: what ORDERS and ORDER_CHANGES share, in this order."""
    cl_ord_id = event.cl_ord_id
    if type(event) is OrderCanceled and event.orig_cl_ord_id:
        # The event names the cancel request's ClOrdID; the order keeps its own.
        cl_ord_id = event.orig_cl_ord_id
    factor, exponent = of.lot_factor, of.lot_exponent
    return (
        f"{copy_text(cl_ord_id)}\t{ORDER_TYPES[event.ord_type]}\t"
        f"{TIMES_IN_FORCE[event.time_in_force]}\t"
        f"{event.price_ticks * of.tick_factor}{of.tick_exponent}\t"
        f"{event.qty_lots * factor}{exponent}\t{event.leaves_lots * factor}{exponent}\t"
        f"{event.cum_lots * factor}{exponent}\t{order_status(event)}\t{ts}"
    )


def order_line(
    of: SymbolFormat, opening: OpeningEvent, opening_ts: str, last: OrderEvent, last_ts: str
) -> str:
    """Render ORDERS: an order that is new in this batch, as it stands at the batch's end.

    Args:
        opening: what the engine said first about the order; its seq is the order's.
        opening_ts: its time as timestamp_text.
        last: what it said last within the batch (may be the same).
        last_ts: its time as timestamp_text.
    """
    seq = opening.order_seq
    if isinstance(opening, OrderAccepted):
        post_only, refusal = "t" if opening.post_only else "f", f"{NULL}\t{NULL}"
    else:
        post_only, refusal = "f", f"{opening.reason:d}\t{copy_text(opening.text)}"
    return (
        f"{of.symbol}-{seq}\t{of.symbol}\t{seq}\t{opening.account}\t{SIDES[opening.side]}\t{post_only}\t"
        f"{_order_state(of, last, last_ts)}\t{opening_ts}\t{refusal}\n"
    )


def order_change_line(of: SymbolFormat, last: OrderEvent, last_ts: str) -> str:
    """Render ORDER_CHANGES: an order of an earlier batch, as it stands at this batch's end."""
    return f"{of.symbol}-{last.order_seq}\t{_order_state(of, last, last_ts)}\n"


def trade_line(of: SymbolFormat, seq: int, ts: str, maker: OrderFilled, taker: OrderFilled) -> str:
    """Render TRADES: the two fills of one trade. In an auction the older order is the maker."""
    assert maker.trade == taker.trade, "Invariant: both fills of a trade carry its number"
    symbol, fee_exponent = of.symbol, of.fee_exponent
    return (
        f"{symbol}\t{seq}\t{maker.trade}\t{symbol}-{maker.order_seq}\t{symbol}-{taker.order_seq}\t"
        f"{maker.account}\t{taker.account}\t{SIDES[taker.side]}\t"
        f"{maker.last_price_ticks * of.tick_factor}{of.tick_exponent}\t"
        f"{maker.last_qty_lots * of.lot_factor}{of.lot_exponent}\t"
        f"{maker.fee}{fee_exponent}\t{taker.fee}{fee_exponent}\t{ts}\t"
        f"{'t' if taker.liquidity is Liquidity.AUCTION else 'f'}\n"
    )


def order_conditions_line(
    of: SymbolFormat, order_seq: int, conditions: OrderConditions, triggered_ts: str | None
) -> str:
    """Render ORDER_CONDITIONS: what an order has besides price and quantity; NULL: it has not.

    Args:
        triggered_ts: when it was triggered, as timestamp_text; None leaves it as it is.
    """

    def amount(number: int, factor: int, exponent: str) -> str:
        return f"{number * factor}{exponent}" if number else NULL

    lots = of.lot_factor, of.lot_exponent
    return (
        f"{of.symbol}-{order_seq}\t"
        f"{amount(conditions.stop_ticks, of.tick_factor, of.tick_exponent)}\t"
        f"{amount(conditions.max_floor_lots, *lots)}\t{amount(conditions.min_qty_lots, *lots)}\t"
        f"{timestamp_text(conditions.expire_us) if conditions.expire_us else NULL}\t"
        f"{amount(conditions.cash, 1, of.fee_exponent)}\t{triggered_ts or NULL}\n"
    )


def phase_line(of: SymbolFormat, seq: int, ts: str, event: PhaseChanged) -> str:
    """Render PHASE_CHANGES: a trading phase begins."""
    price = quantity = NULL
    if event.auction_lots:
        price = f"{event.auction_ticks * of.tick_factor}{of.tick_exponent}"
        quantity = f"{event.auction_lots * of.lot_factor}{of.lot_exponent}"
    return (
        f"{of.symbol}\t{seq}\t{event.index}\t{PHASES[event.phase]}\t"
        f"{PHASE_REASONS[event.reason]}\t{price}\t{quantity}\t{ts}\n"
    )


def symbol_line(event: SymbolDefined) -> str:
    """Render SYMBOL_CHANGES: a symbol's rules as they now are."""
    rules = event.rules
    return (
        f"{rules.symbol}\t{rules.base}\t{rules.quote}\t{rules.base_scale}\t{rules.quote_scale}\t"
        f"{rules.tick_size}\t{rules.lot_size}\t{rules.maker_fee_ppm}\t{rules.taker_fee_ppm}\t"
        f"{rules.version}\t{copy_text(event.incarnation)}\n"
    )


def balance_change_line(account: int, asset: str, available: int, held: int, scale: int) -> str:
    """Render BALANCE_CHANGES: what a batch adds to an account's balance of an asset."""
    exponent = scale_exponent(scale)
    return f"{account}\t{asset}\t{available}{exponent}\t{held}{exponent}\n"


def user_line(user: UserCreated, ts: str, password_hash: str | None, disabled: bool) -> str:
    """Render USERS: a user that is new in this batch.

    Args:
        password_hash: a later one than the first, or None.
        disabled: whether the user was disabled since.
    """
    password_hash = user.password_hash if password_hash is None else password_hash
    return (
        f"{user.account}\t{copy_text(user.username)}\t{copy_text(password_hash)}\t{user.account}\t"
        f"{ts}\t{'t' if disabled else 'f'}\n"
    )


def user_change_line(account: int, password_hash: str | None, disabled: bool) -> str:
    """Render USER_CHANGES: NULL leaves the hash as it is, false leaves `disabled` as it is."""
    password = NULL if password_hash is None else copy_text(password_hash)
    return f"{account}\t{password}\t{'t' if disabled else 'f'}\n"


def user_setting_line(n: int, ts: str, account: int, field: str, value: str) -> str:
    """Render USER_SETTINGS: the value that ledger entry `n` gives a field of a user's record."""
    return f"{account}\t{copy_text(field)}\t{copy_text(value)}\t{n}\t{ts}\n"


def transfer_line(
    n: int, ts: str, entry: Deposited | Withdrawn, kind: str, amount: int, scale: int
) -> str:
    """Render TRANSFERS: a deposit, or a withdrawal with a negative amount."""
    return (
        f"{n}\t{entry.account}\t{kind}\t{entry.asset}\t{amount}{scale_exponent(scale)}\t"
        f"{copy_text(entry.ref)}\t{ts}\n"
    )
