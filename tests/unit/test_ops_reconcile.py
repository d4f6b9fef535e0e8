"""ops.reconcile: each check is silent where all is well, and names what is not."""

from __future__ import annotations

from decimal import Decimal

import pytest

from engine.commands import CancelOrder, NewOrder, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.errors import SequenceGap
from engine.ledger_entries import Deposited, UserCreated, Withdrawn, encode_ledger_entry
from ops import reconcile
from ops.reconcile import DIFFERENCES_MAX, Differences, Replay
from tests.matching_world import SYMBOL, rules
from tests.unit.test_engine_shard import DEFINE

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
    reconcile.add_reserved(reserved, RULES, map(encode_command, commands))
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


@pytest.mark.parametrize(
    ("first", "last", "length", "is_whole", "expected"),
    [
        (1, 9, 9, True, []),
        (4, 9, 6, False, []),
        (0, 0, 0, True, []),
        (4, 9, 6, True, ["dense: s: begins at 4, not at 1"]),
        (4, 9, 5, False, ["dense: s: has 5 entries from 4 to 9"]),
    ],
)
def test_a_stream_is_dense(
    first: int, last: int, length: int, is_whole: bool, expected: list[str]
) -> None:
    found = Differences()
    reconcile.check_dense(found, "s", first=first, last=last, length=length, is_whole=is_whole)
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


def test_a_replay_says_what_accounts_own_and_have_open() -> None:
    replay, buy = Replay(), new_order(Side.BUY)
    replay.apply(SYMBOL, 1, 50, DEFINE)
    applied = replay.apply(SYMBOL, 2, 60, buy)
    owner, name = (7, RULES.quote), f"{SYMBOL}|a"
    assert replay.owned == {owner: [-buy.reserved, buy.reserved]}
    assert replay.opens == {7: {name: applied.opens[0].value}}
    assert replay.best_prices(SYMBOL) == "100 0 2"
    expected = reconcile.expected_balances(replay.owned, {owner: 10**9, (8, "X"): 4})
    assert expected == {owner: (10**9 - buy.reserved, buy.reserved), (8, "X"): (4, 0)}
    with pytest.raises(SequenceGap):
        replay.apply(SYMBOL, 4, 70, buy)
    replay.apply(SYMBOL, 3, 70, CancelOrder(7, 1, 3, "c", "a", 0))
    assert (replay.owned, replay.opens) == ({owner: [0, 0]}, {7: {}})


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
    reconcile.check_opens(found, "open order", {2: {"A|y": "6 1 1 1 0 1"}}, book)
    assert lines(found) == [
        "open order: account 1 A|x: is 5 1 100 2 1 200, in the book 5 1 100 3 0 300",
        "open order: account 1 A|x: is not there, in the book 5 1 100 3 0 300",
        "open order: account 2 A|y: is 6 1 1 1 0 1, in the book nothing",
    ]


def test_of_too_many_differences_the_number_is_said() -> None:
    found = Differences()
    for number in range(DIFFERENCES_MAX + 5):
        found.add("events", "events:A", f"entry {number}")
    found.add("money", "USD", "x")
    assert len(found.all()) == DIFFERENCES_MAX + 2
    assert lines(found)[-1] == "events: further: 5 differences are not shown"
