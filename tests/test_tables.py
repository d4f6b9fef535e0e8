"""Matching scenarios as text: every file of tests/tables, case by case.

A case is a few lines:

    case NAME                              begins a case; accounts A to E start with 1000 base and
                                           1000000 quote units; a lot at one tick costs 10 units;
                                           fees are 1 % for makers and 2 % for takers
    given COMMAND                          a command whose reports are not listed
    COMMAND                                a command; its reports follow, indented, all of them
      A a1 accepted 10 @ 100
    expiries N                             one input ends at most so many orders in this case
    book BIDS | ASKS                       levels best first, each order as QTY ClOrdID @ PRICE;
                                           of an iceberg SHOWN+HIDDEN
    stops SELLS | BUYS                     waiting stop orders, nearest first, as QTY ClOrdID @ STOP
    due WHEN                               never, now, or the seconds until the first expiry
    A base FREE+HELD quote FREE+HELD       balances at the end
    fees AMOUNT                            what account 0 has at the end

Commands:

    A buy ID QTY @ PRICE [day|gtc|ioc|fok|gtd|opg] [market|stop|stop_limit] [post]
          [stp=none|newest|oldest|both] [at=STOP PRICE] [show=MAX FLOOR] [min=MIN QTY]
          [till=SECONDS FROM THE CASE'S BEGINNING] [cash=AMOUNT]
    A cancel ID ORIG [seq=N]
    A replace ID ORIG buy QTY @ PRICE [as an order] [seq=N]
    A query ID [seq=N]
    A cancel-all
    A mass-cancel ID [buy|sell] [all]
    tick [N]                               the leading engine's Tick, N seconds after the case's
                                           beginning; other inputs come a millisecond apart
    phase PHASE                            an operator's, such as pre_open
    rules [maker=PPM] [taker=PPM] [min_notional=N] [min_price=N] [band=PPM] [halts]

`reserved=N` and `version=N` on an order or replace say what a faulty gateway would have sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import trading
from engine.commands import OrderConditions
from engine.enums import (
    CancelReason,
    MassCancelRequestType,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.events import (
    CancelRejected,
    Event,
    MassCancelReported,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderRejected,
    OrderReplaced,
    OrderState,
    OrderStatusReported,
    OrderTriggered,
    Output,
    PhaseChanged,
    SymbolDefined,
)
from engine.open_order import OpenOrder
from tests.matching_world import BASE, QUOTE, SYMBOL, World, rules

ACCOUNTS = "0ABCDE"
STP = dict(zip(("none", "newest", "oldest", "both"), SelfTradePrevention, strict=True))
REASONS = {
    CancelReason.REQUESTED: "requested",
    CancelReason.EXPIRED: "expired",
    CancelReason.SELF_TRADE: "self-trade",
    CancelReason.USER_DISABLED: "user disabled",
    CancelReason.MASS_CANCEL: "mass cancel",
    CancelReason.TIME_EXPIRED: "time expired",
    CancelReason.PRICE_BAND: "price band",
}
CONDITIONS = {
    "at": "stop_ticks",
    "show": "max_floor_lots",
    "min": "min_qty_lots",
    "till": "expire_us",
    "cash": "cash",
}


def read_cases(path: Path) -> dict[str, list[str]]:
    """Return the lines of each case of a file."""
    cases: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("case "):
            name = line.removeprefix("case ")
            assert name not in cases, f"{path.name}: case {name} stands twice"
            cases[name] = lines = []
        elif line.strip() and not line.startswith("#"):
            lines.append(line)
    return cases


FILES = sorted((Path(__file__).parent / "tables").glob("*.txt"))
CASES = [
    pytest.param(lines, id=f"{path.stem}: {name}")
    for path in FILES
    for name, lines in read_cases(path).items()
]


def options(words: list[str]) -> dict[str, Any]:
    """Read the words behind an order's price."""
    found: dict[str, Any] = {}
    conditions: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "stp":
            found["stp"] = STP[value]
        elif name in CONDITIONS:
            conditions[CONDITIONS[name]] = int(value) * (1_000_000 if name == "till" else 1)
        elif name == "seq":
            found["order_seq"] = int(value)
        elif value:
            found[name] = int(value)
        elif name in ("market", "stop", "stop_limit"):
            found["ord_type"] = OrdType[name.upper()]
        elif name == "post":
            found["post_only"] = True
        else:
            found["time_in_force"] = TimeInForce[name.upper()]
    if conditions:
        found["conditions"] = OrderConditions(**conditions)
    return found


def run_command(world: World, words: list[str]) -> Output:
    """Apply a command line."""
    if words[0] == "rules":
        return change_rules(world, words[1:])
    if words[0] == "phase":
        return world.set_phase(TradingPhase[words[1].upper()])
    if words[0] == "tick":
        return world.tick(*[1_000_000 * int(word) for word in words[1:]])
    account, verb, rest = ACCOUNTS.index(words[0]), words[1], words[2:]
    if verb in ("buy", "sell"):
        cl_ord_id, qty, at, price, *more = rest
        assert at == "@"
        return world.new(
            account, cl_ord_id, Side[verb.upper()], int(qty), int(price), **options(more)
        )
    if verb == "replace":
        cl_ord_id, orig, side, qty, at, price, *more = rest
        assert at == "@"
        return world.apply(
            world.replacing(
                account,
                cl_ord_id,
                orig,
                Side[side.upper()],
                int(qty),
                int(price),
                **options(more),
            )
        )
    if verb == "cancel":
        return world.cancel(account, rest[0], rest[1], **options(rest[2:]))
    if verb == "query":
        return world.query(account, rest[0], **options(rest[1:]))
    if verb == "mass-cancel":
        return mass_cancel(world, account, rest)
    assert verb == "cancel-all"
    return world.cancel_all(account)


def change_rules(world: World, words: list[str]) -> Output:
    """Apply other rules."""
    wanted = {name: value for name, _, value in (word.partition("=") for word in words)}
    return world.change_rules(
        rules(
            version=world.rules.version + 1,
            maker_ppm=int(wanted.get("maker", world.rules.maker_fee_ppm)),
            taker_ppm=int(wanted.get("taker", world.rules.taker_fee_ppm)),
            min_notional=wanted.get("min_notional", "0"),
            min_price=wanted.get("min_price", "1"),
            band_ppm=int(wanted.get("band", 0)),
            halts="halts" in wanted,
        )
    )


def mass_cancel(world: World, account: int, words: list[str]) -> Output:
    """Apply a mass cancel."""
    cl_ord_id, *of = words
    sides = [Side[word.upper()] for word in of if word != "all"]
    kind = MassCancelRequestType.ALL if "all" in of else MassCancelRequestType.SECURITY
    return world.mass_cancel(account, cl_ord_id, sides[0] if sides else None, kind)


def describe(event: Event) -> str:
    """Return the report line of an event."""
    if isinstance(event, SymbolDefined):
        return f"rules version {event.rules.version}"
    if isinstance(event, PhaseChanged):
        auction = f", auction {event.auction_lots} @ {event.auction_ticks}"
        return (
            f"{event.phase.name.lower()}, {event.reason.name.lower()}"
            f"{auction if event.auction_lots else ''}"
        )
    assert not isinstance(event, OrderStatusReported) or event.ord_status_req_id
    who = f"{ACCOUNTS[event.account]} {getattr(event, 'cl_ord_id', '')}"
    if isinstance(event, CancelRejected):
        return (
            f"{who} {event.response_to.name.lower()} of {event.orig_cl_ord_id} refused"
            f" {event.reason:d}, status {event.ord_status.name.lower()}: {event.text}"
        )
    if isinstance(event, MassCancelReported):
        if event.response is MassCancelRequestType.REJECTED:
            return f"{who} mass cancel refused {event.reason:d}: {event.text}"
        return f"{who} mass cancel of {event.affected}"
    assert isinstance(event, OrderState)
    return f"{who} {describe_order(event)}"


def describe_order(event: OrderState) -> str:
    """Return what an event says about an order."""
    terms = f"{event.qty_lots} @ {event.price_ticks}"
    match event:
        case OrderAccepted():
            return f"accepted {terms}"
        case OrderTriggered():
            return f"triggered {terms}, left {event.leaves_lots}"
        case OrderRefilled():
            return f"shows {event.displayed_lots} of {event.leaves_lots}"
        case OrderRejected():
            return f"rejected {event.reason:d}: {event.text}"
        case OrderFilled():
            return (
                f"filled {event.last_qty_lots} @ {event.last_price_ticks}"
                f" {event.liquidity.name.lower()}, left {event.leaves_lots}, fee {event.fee}"
            )
        case OrderCanceled():
            of = f" of {event.orig_cl_ord_id}" if event.orig_cl_ord_id else ""
            return f"canceled {event.canceled_lots}{of}, {REASONS[event.reason]}"
        case OrderReplaced():
            place = "keeps its place" if event.kept_priority else "loses its place"
            return (
                f"replaced {event.orig_cl_ord_id} ({event.old_leaves_lots} @"
                f" {event.old_price_ticks}): {terms}, left {event.leaves_lots}, {place}"
            )
    assert isinstance(event, OrderStatusReported)
    waits = "" if event.working else ", waits"
    return (
        f"is {event.ord_status.name.lower()}: {terms}, left {event.leaves_lots},"
        f" filled {event.cum_lots}{waits}"
    )


def book_line(world: World) -> str:
    """Return the book line: all orders of both sides."""
    orders = list(world.shard.matcher(SYMBOL).book.by_priority())
    return f"book {queue(orders, Side.BUY)} | {queue(orders, Side.SELL)}"


def stops_line(world: World) -> str:
    """Return the line of the stop orders that wait."""
    orders = list(world.shard.matcher(SYMBOL).stops.by_priority())
    return f"stops {queue(orders, Side.SELL)} | {queue(orders, Side.BUY)}"


def queue(orders: list[OpenOrder], side: Side) -> str:
    """Return the orders of a side where they stand in a book."""
    shown = []
    for order in orders:
        if order.side is side:
            hidden = f"+{order.hidden_lots}" if order.hidden_lots else ""
            place = f"{order.cl_ord_id} @ {order.level.price_ticks}"
            shown.append(f"{order.leaves_qty_lots}{hidden} {place}")
    return ", ".join(shown) or "-"


def due_line(world: World) -> str:
    """Return the line that says when there is something to do without an input."""
    due_us = world.shard.due_us(SYMBOL)
    if due_us > 1:
        seconds, rest_us = divmod(due_us, 1_000_000)
        assert not rest_us
        return f"due {seconds}"
    return "due now" if due_us else "due never"


def balance_line(world: World, who: str) -> str:
    """Return the balance line of an account."""
    base, quote = (world.balance(ACCOUNTS.index(who), asset) for asset in (BASE, QUOTE))
    return f"{who} base {base[0]}+{base[2]} quote {quote[0]}+{quote[2]}"


def replay(lines: list[str], patch: pytest.MonkeyPatch) -> list[str]:
    """Run a case, and return its lines as they would read if they told what really happens."""
    world = World()
    told = []
    for line in lines:
        words = line.split()
        if line.startswith("  "):
            continue
        if line.startswith("given "):
            run_command(world, words[1:])
            told.append(line)
        elif words[0] == "expiries":
            patch.setattr(trading, "EXPIRIES_PER_INPUT_MAX", int(words[1]))
            told.append(line)
        elif words[0] == "book":
            told.append(book_line(world))
        elif words[0] == "stops":
            told.append(stops_line(world))
        elif words[0] == "due":
            told.append(due_line(world))
        elif words[0] == "fees":
            told.append(f"fees {world.balance(0, QUOTE)[0]}")
        elif words[1:2] == ["base"]:
            told.append(balance_line(world, words[0]))
        else:
            told.append(line)
            told += [f"  {describe(event)}" for event in run_command(world, words).events]
    return told


@pytest.mark.parametrize("lines", CASES)
def test_table(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert replay(lines, monkeypatch) == lines


def test_there_are_tables() -> None:
    assert len(CASES) > 100
