"""Lines of COPY text: decimals, times, escapes and states, as PostgreSQL will read them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.commands import OrderConditions
from engine.enums import (
    CancelReason,
    Liquidity,
    OrdRejReason,
    PhaseReason,
    SelfTradePrevention,
    Side,
    TradingPhase,
)
from engine.errors import DecodeError
from engine.events import (
    OrderCanceled,
    OrderRejected,
    OrderReplaced,
    Output,
    PhaseChanged,
    SymbolDefined,
)
from engine.instrument import DecimalGrid
from persistence import rows
from persistence.execution_rows import decode_event
from persistence.rows import SymbolFormat
from persistence.table import Table
from tests.persistence_events import (
    INCARNATION,
    TS_US,
    accepted,
    execution_row,
    filled,
    order_fields,
    rules,
)

TS = rows.timestamp_text(TS_US)
OF = SymbolFormat.of_event(SymbolDefined(0, INCARNATION, rules()))


def columns(table: Table, line: str) -> dict[str, str]:
    assert line.endswith("\n")
    values = line[:-1].split("\t")
    assert len(values) == len(table.columns)
    return dict(zip(table.columns, values, strict=True))


@pytest.mark.parametrize("step", ["1", "5", "0.01", "0.05", "0.25", "2.50", "10", "0.00000001"])
@pytest.mark.parametrize("steps", [0, 1, 3, 12_345_678_901_234])
def test_numbers_of_a_grid_are_written_exactly(step: str, steps: int) -> None:
    of = SymbolFormat(
        symbol="A-B", base="A", quote="B", base_scale=0, quote_scale=0, tick_size=step, lot_size="1"
    )
    written = f"{steps * of.tick_factor}{of.tick_exponent}"
    assert Decimal(written) == Decimal(DecimalGrid(step).format(steps)) == steps * Decimal(step)


@pytest.mark.parametrize(
    ("ts_us", "text"),
    [
        (0, "1970-01-01 00:00:00+00:00"),
        (1, "1970-01-01 00:00:00.000001+00:00"),
        (1_700_000_000_999_999, "2023-11-14 22:13:20.999999+00:00"),
    ],
)
def test_times_are_written_to_the_microsecond(ts_us: int, text: str) -> None:
    assert rows.timestamp_text(ts_us) == text


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("order 1 ä€", "order 1 ä€"),
        ("a\\b", "a\\\\b"),
        ("\\N", "\\\\N"),
        ("a\tb\nc\rd", "a\\tb\\nc\\rd"),
        ("nul\0byte", "nul\ufffdbyte"),
        ("", ""),
    ],
)
def test_text_is_escaped_for_copy(text: str, field: str) -> None:
    assert rows.copy_text(text) == field


def test_new_order_stands_as_its_last_event_left_it() -> None:
    opening = accepted(0, 7, 12)
    last = filled(1, 7, 12, Liquidity.MAKER, 4, 0, leaves_lots=6, cum_lots=4)
    later = rows.timestamp_text(TS_US + 5)
    assert columns(rows.ORDERS, rows.order_line(OF, opening, TS, last, later)) == {
        "id": "ALFA-USD-12",
        "symbol": "ALFA-USD",
        "seq": "12",
        "user_id": "7",
        "side": "buy",
        "post_only": "f",
        "cl_ord_id": "c12",
        "type": "limit",
        "time_in_force": "gtc",
        "price": "5000e-2",
        "quantity": "10",
        "remaining_quantity": "6",
        "filled_quantity": "4",
        "status": "partially_filled",
        "updated_at": later,
        "created_at": TS,
        "reject_reason": "\\N",
        "reject_text": "\\N",
    }


def test_refused_order_is_a_row_with_its_reason() -> None:
    event = OrderRejected(
        **order_fields(0, 7, 12, leaves_lots=0), reason=OrdRejReason.DUPLICATE_ORDER, text="twice"
    )
    row = columns(rows.ORDERS, rows.order_line(OF, event, TS, event, TS))
    assert (row["status"], row["reject_reason"], row["reject_text"]) == ("rejected", "6", "twice")


def canceled(reason: CancelReason, orig_cl_ord_id: str = "") -> OrderCanceled:
    fields = order_fields(0, 7, 12, leaves_lots=0, cl_ord_id="mine or the request's")
    return OrderCanceled(**fields, reason=reason, orig_cl_ord_id=orig_cl_ord_id, canceled_lots=10)


def replaced(**changes: Any) -> OrderReplaced:
    return OrderReplaced(
        **order_fields(0, 7, 12, **changes),
        orig_cl_ord_id="c12",
        old_price_ticks=1,
        old_leaves_lots=10,
        kept_priority=False,
        post_only=False,
        stp=SelfTradePrevention.NONE,
    )


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (accepted(0, 7, 12), "new"),
        (filled(0, 7, 12, Liquidity.TAKER, 1, 0, leaves_lots=9), "partially_filled"),
        (filled(0, 7, 12, Liquidity.TAKER, 10, 0, leaves_lots=0), "filled"),
        (canceled(CancelReason.REQUESTED, "c12"), "canceled"),
        (canceled(CancelReason.SELF_TRADE), "canceled"),
        (canceled(CancelReason.USER_DISABLED), "canceled"),
        (canceled(CancelReason.EXPIRED), "expired"),
        (replaced(), "new"),
        (replaced(cum_lots=3, leaves_lots=7), "partially_filled"),
    ],
)
def test_status_follows_from_the_last_event(event: rows.OrderEvent, status: str) -> None:
    row = columns(rows.ORDER_CHANGES, rows.order_change_line(OF, event, TS))
    assert (row["id"], row["status"]) == ("ALFA-USD-12", status)


def test_canceled_order_keeps_its_own_cl_ord_id() -> None:
    line = rows.order_change_line(OF, canceled(CancelReason.REQUESTED, "c12"), TS)
    assert columns(rows.ORDER_CHANGES, line)["cl_ord_id"] == "c12"


def test_replaced_order_takes_the_new_cl_ord_id() -> None:
    line = rows.order_change_line(OF, replaced(cl_ord_id="c13"), TS)
    assert columns(rows.ORDER_CHANGES, line)["cl_ord_id"] == "c13"


def test_trade_names_both_orders_users_and_fees() -> None:
    maker = filled(1, 7, 12, Liquidity.MAKER, 4, 1_000_001, trade=2)
    taker = filled(2, 8, 15, Liquidity.TAKER, 4, 2, trade=2, side=Side.SELL)
    assert columns(rows.TRADES, rows.trade_line(OF, 15, TS, maker, taker)) == {
        "symbol": "ALFA-USD",
        "seq": "15",
        "index": "2",
        "maker_order_id": "ALFA-USD-12",
        "taker_order_id": "ALFA-USD-15",
        "maker_user_id": "7",
        "taker_user_id": "8",
        "taker_side": "sell",
        "price": "5000e-2",
        "quantity": "4",
        "maker_fee": "1000001e-6",
        "taker_fee": "2e-6",
        "executed_at": TS,
        "auction": "f",
    }


def test_trade_of_an_auction_says_so() -> None:
    older = filled(1, 7, 12, Liquidity.AUCTION, 4, 5, trade=2)
    newer = filled(2, 8, 15, Liquidity.AUCTION, 4, 5, trade=2, side=Side.SELL)
    row = columns(rows.TRADES, rows.trade_line(OF, 16, TS, older, newer))
    assert (row["maker_order_id"], row["auction"]) == ("ALFA-USD-12", "t")


def test_conditions_are_null_where_an_order_has_none_of_them() -> None:
    conditions = OrderConditions(stop_ticks=5_000, max_floor_lots=3)
    assert columns(rows.ORDER_CONDITIONS, rows.order_conditions_line(OF, 12, conditions, None)) == {
        "order_id": "ALFA-USD-12",
        "stop_price": "5000e-2",
        "display_quantity": "3",
        "min_quantity": rows.NULL,
        "expire_at": rows.NULL,
        "cash": rows.NULL,
        "triggered_at": rows.NULL,
    }
    timed = OrderConditions(min_qty_lots=2, expire_us=TS_US, cash=7)
    row = columns(rows.ORDER_CONDITIONS, rows.order_conditions_line(OF, 12, timed, TS))
    assert (row["min_quantity"], row["cash"], row["triggered_at"]) == ("2", "7e-6", TS)
    assert row["expire_at"] == rows.timestamp_text(TS_US)


def test_phase_names_the_auction_only_where_something_crossed() -> None:
    event = PhaseChanged(3, TradingPhase.CONTINUOUS, PhaseReason.AUCTION_DONE, 5_000, 12)
    assert columns(rows.PHASE_CHANGES, rows.phase_line(OF, 15, TS, event)) == {
        "symbol": "ALFA-USD",
        "seq": "15",
        "index": "3",
        "phase": "continuous",
        "reason": "auction_done",
        "auction_price": "5000e-2",
        "auction_quantity": "12",
        "changed_at": TS,
    }
    halted = PhaseChanged(0, TradingPhase.HALTED, PhaseReason.OPERATOR)
    row = columns(rows.PHASE_CHANGES, rows.phase_line(OF, 15, TS, halted))
    assert (row["auction_price"], row["auction_quantity"]) == (rows.NULL, rows.NULL)


def test_execution_holds_the_whole_event() -> None:
    event = filled(1, 7, 12, Liquidity.MAKER, 4, 5)
    output = Output("ALFA-USD", 15, TS_US, [SymbolDefined(0, INCARNATION, rules()), event], [])
    [data] = OF.executions.of_output(output)
    row = execution_row(data)
    assert (row["user_id"], row["symbol"], row["seq"]) == ("7", "ALFA-USD", "15")
    assert (row["index"], row["kind"], row["executed_at"]) == ("1", "filled", TS)
    assert decode_event(bytes.fromhex(row["event"])) == event


def test_bytes_that_are_no_event_are_refused() -> None:
    with pytest.raises(DecodeError, match="not an event"):
        decode_event(b"\x91\x63")
