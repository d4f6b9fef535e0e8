"""Matching scenarios as text: every file of tests/tables, case by case.

A case is a few lines:

    case NAME                              begins a case; accounts A to E start with 1000 base and
                                           1000000 quote units; a lot at one tick costs 10 units;
                                           fees are 1 % for makers and 2 % for takers
    given COMMAND                          a command whose reports are not listed
    COMMAND                                a command; its reports follow, indented, all of them
      A a1 accepted 10 @ 100
    book BIDS | ASKS                       levels best first, each order as QTY ClOrdID @ PRICE
    A base FREE+HELD quote FREE+HELD       balances at the end
    fees AMOUNT                            what account 0 has at the end

Commands:

    A buy ID QTY @ PRICE [day|gtc|ioc|fok] [market] [post] [stp=none|newest|oldest|both]
    A cancel ID ORIG [seq=N]
    A replace ID ORIG buy QTY @ PRICE [day|ioc] [market] [post] [seq=N]
    A query ID [seq=N]
    A cancel-all
    rules maker=PPM taker=PPM [min_notional=N]

`reserved=N` and `version=N` on an order or replace say what a faulty gateway would have sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.enums import (
    CancelReason,
    Liquidity,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import (
    CancelRejected,
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderStatusReported,
    Output,
    SymbolDefined,
)
from tests.matching_world import BASE, QUOTE, SYMBOL, World, rules

ACCOUNTS = "0ABCDE"
STP = dict(zip(("none", "newest", "oldest", "both"), SelfTradePrevention, strict=True))
REASONS = {
    CancelReason.REQUESTED: "requested",
    CancelReason.EXPIRED: "expired",
    CancelReason.SELF_TRADE: "self-trade",
    CancelReason.USER_DISABLED: "user disabled",
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
    for word in words:
        name, _, value = word.partition("=")
        if name == "stp":
            found["stp"] = STP[value]
        elif name == "seq":
            found["order_seq"] = int(value)
        elif value:
            found[name] = int(value)
        elif name == "market":
            found["ord_type"] = OrdType.MARKET
        elif name == "post":
            found["post_only"] = True
        else:
            found["time_in_force"] = TimeInForce[name.upper()]
    return found


def run_command(world: World, words: list[str]) -> Output:
    """Apply a command line."""
    if words[0] == "rules":
        wanted: dict[str, str] = dict(word.split("=") for word in words[1:])
        return world.change_rules(
            rules(
                version=world.rules.version + 1,
                maker_ppm=int(wanted["maker"]),
                taker_ppm=int(wanted["taker"]),
                min_notional=wanted.get("min_notional", "0"),
            )
        )
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
    assert verb == "cancel-all"
    return world.cancel_all(account)


def describe(event: Event) -> str:
    """Return the report line of an event."""
    if isinstance(event, SymbolDefined):
        return f"rules version {event.rules.version}"
    assert not isinstance(event, OrderStatusReported) or event.ord_status_req_id
    who = f"{ACCOUNTS[event.account]} {getattr(event, 'cl_ord_id', '')}"
    if isinstance(event, CancelRejected):
        return (
            f"{who} {event.response_to.name.lower()} of {event.orig_cl_ord_id} refused"
            f" {event.reason:d}, status {event.ord_status.name.lower()}: {event.text}"
        )
    assert isinstance(
        event,
        OrderAccepted
        | OrderRejected
        | OrderFilled
        | OrderCanceled
        | OrderReplaced
        | OrderStatusReported,
    )
    terms = f"{event.qty_lots} @ {event.price_ticks}"
    if isinstance(event, OrderAccepted):
        return f"{who} accepted {terms}"
    if isinstance(event, OrderRejected):
        return f"{who} rejected {event.reason:d}: {event.text}"
    if isinstance(event, OrderFilled):
        role = "maker" if event.liquidity is Liquidity.MAKER else "taker"
        return (
            f"{who} filled {event.last_qty_lots} @ {event.last_price_ticks} {role},"
            f" left {event.leaves_lots}, fee {event.fee}"
        )
    if isinstance(event, OrderCanceled):
        of = f" of {event.orig_cl_ord_id}" if event.orig_cl_ord_id else ""
        return f"{who} canceled {event.canceled_lots}{of}, {REASONS[event.reason]}"
    if isinstance(event, OrderReplaced):
        place = "keeps its place" if event.kept_priority else "loses its place"
        return (
            f"{who} replaced {event.orig_cl_ord_id} ({event.old_leaves_lots} @"
            f" {event.old_price_ticks}): {terms}, left {event.leaves_lots}, {place}"
        )
    return (
        f"{who} is {event.ord_status.name.lower()}: {terms}, left {event.leaves_lots},"
        f" filled {event.cum_lots}"
    )


def book_line(world: World) -> str:
    """Return the book line: all orders of both sides."""
    book = world.shard.matcher(SYMBOL).book
    sides = []
    for side in (book.bids, book.asks):
        orders = [order for level in side.walk() for order in level.orders()]
        sides.append(
            ", ".join(f"{o.leaves_qty_lots} {o.cl_ord_id} @ {o.price_ticks}" for o in orders) or "-"
        )
    return f"book {sides[0]} | {sides[1]}"


def balance_line(world: World, who: str) -> str:
    """Return the balance line of an account."""
    base, quote = (world.balance(ACCOUNTS.index(who), asset) for asset in (BASE, QUOTE))
    return f"{who} base {base[0]}+{base[2]} quote {quote[0]}+{quote[2]}"


def replay(lines: list[str]) -> list[str]:
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
        elif words[0] == "book":
            told.append(book_line(world))
        elif words[0] == "fees":
            told.append(f"fees {world.balance(0, QUOTE)[0]}")
        elif words[1] == "base":
            told.append(balance_line(world, words[0]))
        else:
            told.append(line)
            told += [f"  {describe(event)}" for event in run_command(world, words).events]
    return told


@pytest.mark.parametrize("lines", CASES)
def test_table(lines: list[str]) -> None:
    assert replay(lines) == lines


def test_there_are_tables() -> None:
    assert len(CASES) > 100
