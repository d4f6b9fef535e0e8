"""ops.reconcile: each check is silent where all is well, and names what is not."""

from __future__ import annotations

from decimal import Decimal

import pytest

from engine.commands import CancelOrder, NewOrder, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.errors import DecodeError
from engine.ledger_entries import Deposited, UserCreated, Withdrawn, encode_ledger_entry
from ops import reconcile
from ops.reconcile import DIFFERENCES_MAX, Differences
from tests.matching_world import rules

RULES = rules()


def new_order(side: Side, *, qty: int = 3, price: int = 100, account: int = 7) -> NewOrder:
    return NewOrder(
        account=account,
        session=1,
        msg_seq_num=2,
        cl_ord_id="a",
        side=side,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        stp=SelfTradePrevention.NONE,
        price_ticks=price,
        qty_lots=qty,
        rules_version=1,
        reserved=RULES.hold_of(side, price, qty),
    )


def lines(found: Differences) -> list[str]:
    return [str(one) for one in found.all()]


def test_money_is_conserved_and_nobody_owes() -> None:
    good = {(0, "USD"): (5, 0, 0), (1, "USD"): (60, 20, 15)}
    found = Differences()
    reconcile.check_money(found, good, {"USD": 100, "BTC": 0})
    assert lines(found) == []
    reconcile.check_money(found, {**good, (2, "BTC"): (-1, 0, 2)}, {"USD": 99})
    assert lines(found) == [
        "negative: account 2 BTC: available -1, pending 0, held 2",
        "money: BTC: accounts own 1, deposits - withdrawals are 0",
        "money: USD: accounts own 100, deposits - withdrawals are 99",
    ]


def test_totals_are_those_of_the_ledger() -> None:
    sums: dict[reconcile.Owner, int] = {}
    entries = [
        UserCreated(1, "a", "h"),
        Deposited(1, "USD", 70, "r"),
        Deposited(2, "USD", 40, "s"),
        Withdrawn(1, "USD", 10, "t"),
    ]
    reconcile.add_transfers(sums, map(encode_ledger_entry, entries))
    assert sums == {(1, "USD"): 60, (2, "USD"): 40}
    found = Differences()
    reconcile.check_totals(found, sums, {"USD": 100})
    assert lines(found) == []
    reconcile.check_totals(found, sums, {"USD": 101, "BTC": 1})
    assert lines(found) == [
        "totals: BTC: is 1, the ledger says 0",
        "totals: USD: is 101, the ledger says 100",
    ]


def test_what_is_held_is_what_open_orders_hold() -> None:
    found = Differences()
    reconcile.check_held(found, {(1, "USD"): (9, 0, 4), (1, "BTC"): (1, 0, 0)}, {(1, "USD"): 4})
    assert lines(found) == []
    reconcile.check_held(found, {(1, "USD"): (9, 0, 4)}, {(1, "USD"): 3, (2, "BTC"): 8})
    assert lines(found) == [
        "held: account 1 USD: is 4, open orders hold 3",
        "held: account 2 BTC: is 0, open orders hold 8",
    ]


def test_what_is_pending_is_what_unsettled_commands_reserve() -> None:
    buy, sell = new_order(Side.BUY), new_order(Side.SELL)
    commands = [buy, buy, sell, CancelOrder(7, 1, 3, "c", "a", 0)]
    reserved: dict[reconcile.Owner, int] = {}
    entries = list(enumerate(map(encode_command, commands), 5))
    reconcile.add_reserved(reserved, RULES, entries, ())
    assert reserved == {(7, RULES.quote): 2 * buy.reserved, (7, RULES.base): sell.reserved}
    balances = {owner: (0, amount, 0) for owner, amount in reserved.items()}
    found = Differences()
    reconcile.check_pending(found, balances, reserved)
    assert lines(found) == []
    reconcile.check_pending(found, {(7, "X"): (0, 1, 0)}, {(8, "X"): 2})
    assert lines(found) == [
        "pending: account 7 X: is 1, unsettled commands reserve 0",
        "pending: account 8 X: is 0, unsettled commands reserve 2",
    ]


def test_what_is_skipped_need_not_be_a_command() -> None:
    buy = new_order(Side.BUY)
    reserved: dict[reconcile.Owner, int] = {}
    entries = [(5, b"garbage"), (6, encode_command(buy)), (7, encode_command(buy))]
    with pytest.raises(DecodeError):
        reconcile.add_reserved(reserved, RULES, entries, {6})
    assert reserved == {}
    reconcile.add_reserved(reserved, RULES, entries, {5, 6})
    assert reserved == {(7, RULES.quote): 2 * buy.reserved}, "a skipped one is pending as well"


@pytest.mark.parametrize(
    ("first", "last", "length", "begins_by", "expected"),
    [
        (1, 9, 9, 1, []),
        (4, 9, 6, None, []),
        (4, 9, 6, 4, []),
        (0, 0, 0, 1, []),
        (4, 9, 6, 1, ["dense: s: begins at 4, must begin at 1 at the latest"]),
        (4, 9, 6, 3, ["dense: s: begins at 4, must begin at 3 at the latest"]),
        (4, 9, 5, None, ["dense: s: has 5 entries from 4 to 9"]),
    ],
)
def test_a_stream_is_dense(
    first: int, last: int, length: int, begins_by: int | None, expected: list[str]
) -> None:
    found = Differences()
    reconcile.check_dense(found, "s", first=first, last=last, length=length, begins_by=begins_by)
    assert lines(found) == expected


def test_nothing_is_ahead_of_what_it_follows() -> None:
    found = Differences()
    reconcile.check_ends(found, "A", admitted=9, settled=9, published=8)
    assert lines(found) == []
    reconcile.check_ends(found, "A", admitted=8, settled=9, published=10)
    assert lines(found) == [
        "positions: A: settled up to 9, its orders end at 8",
        "positions: A: published up to 10, settled up to 9",
    ]


def test_balances_follow_from_the_streams() -> None:
    expected = {(1, "USD"): (90, 10)}
    found = Differences()
    reconcile.check_balances(found, {(1, "USD"): (85, 5, 10)}, expected)
    reconcile.check_stored_balances(found, {(1, "USD"): (Decimal(90), Decimal(10))}, expected)
    assert lines(found) == []
    reconcile.check_balances(found, {(1, "USD"): (86, 5, 10), (2, "USD"): (1, 0, 0)}, expected)
    reconcile.check_stored_balances(found, {(1, "USD"): (Decimal("90.5"), Decimal(9))}, expected)
    assert lines(found) == [
        "balance: account 1 USD: available 86, pending 5, held 10;"
        " by its streams available + pending 90, held 10",
        "balance: account 2 USD: available 1, pending 0, held 0;"
        " by its streams available + pending 0, held 0",
        "postgres balance: account 1 USD: available 90.5, held 9;"
        " by its streams available 90, held 10",
    ]


def test_open_orders_are_those_of_the_book() -> None:
    book = {1: {"A|x": "5 1 100 3 0 300"}, 2: {}}
    found = Differences()
    reconcile.check_opens(found, "open order", {1: book[1]}, book)
    stored = {1: {"A|x": "5 1 100 3 0"}}
    reconcile.check_opens(found, "postgres open order", stored, reconcile.without_holds(book))
    assert lines(found) == []
    reconcile.check_opens(found, "open order", {1: {"A|x": "5 1 100 2 1 200"}}, book)
    reconcile.check_opens(found, "open order", {2: {"A|y": "6 1 1 1 0 1"}}, book, by="Redis")
    assert lines(found) == [
        "open order: account 1 A|x: is 5 1 100 2 1 200, in the book 5 1 100 3 0 300",
        "open order: account 1 A|x: is not there, in Redis 5 1 100 3 0 300",
        "open order: account 2 A|y: is 6 1 1 1 0 1, in Redis nothing",
    ]


def test_of_too_many_differences_the_number_is_said() -> None:
    found = Differences()
    for number in range(DIFFERENCES_MAX + 5):
        found.add("events", "events:A", f"entry {number}")
    found.add("money", "USD", "x")
    assert len(found.all()) == DIFFERENCES_MAX + 2
    assert lines(found)[-1] == "events: further: 5 differences are not shown"
