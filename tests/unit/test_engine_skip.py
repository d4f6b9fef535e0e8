"""engine.skip: an input that is passed over frees what it reserved, answers its sender, no more."""

from __future__ import annotations

import msgspec
import pytest

from engine.commands import (
    CancelAll,
    CancelOrder,
    Command,
    DefineSymbol,
    MassCancel,
    NewOrder,
    OrderConditions,
    QueryOrder,
    ReplaceOrder,
    Tick,
    encode_command,
)
from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    MassCancelRequestType,
    OrdRejReason,
    OrdStatus,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.errors import SequenceGap
from engine.events import (
    BalanceChange,
    BusinessRejected,
    CancelRejected,
    OrderRejected,
    Skipped,
    decode_output,
    encode_output,
)
from engine.settlement import encode_settlement
from engine.shard import Shard
from tests.matching_world import SYMBOL, World, rules

WHY = "trips an assertion"
TEXT = f"Skipped by an operator: {WHY}"
DEFINE = DefineSymbol("0123456789abcdef", rules())
NEW = NewOrder(
    account=7,
    session=1,
    msg_seq_num=12,
    cl_ord_id="n",
    side=Side.BUY,
    ord_type=OrdType.LIMIT,
    time_in_force=TimeInForce.GTC,
    post_only=False,
    stp=SelfTradePrevention.NONE,
    price_ticks=100,
    qty_lots=3,
    rules_version=1,
    reserved=3_060,
)


def replacement(orig: str) -> ReplaceOrder:
    return ReplaceOrder(
        account=1,
        session=1,
        msg_seq_num=13,
        cl_ord_id="r",
        orig_cl_ord_id=orig,
        order_seq=0,
        side=Side.SELL,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        price_ticks=100,
        qty_lots=3,
        rules_version=1,
        reserved=3,
    )


def skipped(world: World, command: Command) -> tuple[Skipped, list[BalanceChange]]:
    """Skip a command in a world, and return the one event and the balance changes."""
    output = world.skip(encode_command(command), WHY)
    (event,) = output.events
    assert isinstance(event, Skipped)
    assert (event.index, event.reason) == (0, WHY)
    return event, output.changes


def test_a_new_order_is_rejected_and_its_reservation_free_again() -> None:
    world = World()
    event, changes = skipped(world, NEW)
    assert changes == [BalanceChange(7, "EUR", 3_060, -3_060, 0)]
    assert (event.account, event.cl_ord_id) == (7, "n")
    assert event.answer == OrderRejected(
        index=0,
        account=7,
        order_seq=2,
        cl_ord_id="n",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        price_ticks=100,
        qty_lots=3,
        leaves_lots=0,
        cum_lots=0,
        cum_price_qty=0,
        reason=OrdRejReason.OTHER,
        text=TEXT,
    )
    assert world.new(7, "n", Side.BUY, 3, 100).events[0].index == 0, "the ClOrdID is not used up"
    assert (7, "n") in world.opens


@pytest.mark.parametrize(
    ("command", "response_to"),
    [
        (CancelOrder(1, 1, 9, "r", "rest", 0), CxlRejResponseTo.CANCEL),
        (replacement("rest"), CxlRejResponseTo.REPLACE),
    ],
)
def test_a_request_about_an_order_says_how_the_order_stands(
    command: Command, response_to: CxlRejResponseTo
) -> None:
    world = World()
    world.new(1, "rest", Side.SELL, 5, 110)
    world.new(2, "take", Side.BUY, 2, 110)
    event, changes = skipped(world, command)
    reserved = [BalanceChange(1, "COW", 3, -3, 0)]
    assert changes == (reserved if isinstance(command, ReplaceOrder) else [])
    assert (event.account, event.cl_ord_id) == (1, "r")
    assert event.answer == CancelRejected(
        index=0,
        account=1,
        cl_ord_id="r",
        orig_cl_ord_id="rest",
        order_seq=2,
        ord_status=OrdStatus.PARTIALLY_FILLED,
        response_to=response_to,
        reason=CxlRejReason.OTHER,
        text=TEXT,
    )
    assert world.cancel(1, "x", "rest").events[0].index == 0, "the order stands as it stood"


def test_a_request_about_no_order_says_so() -> None:
    event, _ = skipped(World(), replacement("none"))
    assert isinstance(event.answer, CancelRejected)
    assert (event.answer.order_seq, event.answer.ord_status) == (0, OrdStatus.REJECTED)


def test_a_status_request_is_answered_by_a_business_reject() -> None:
    world = World()
    event, changes = skipped(world, QueryOrder(1, 1, 44, "rest", 0, Side.SELL, "q"))
    assert (event.account, event.cl_ord_id, changes) == (1, "rest", [])
    assert event.answer == BusinessRejected(0, 1, 44, "H", "rest", BusinessRejectReason.OTHER, TEXT)


def test_a_mass_cancel_is_answered_by_a_business_reject_and_cancels_nothing() -> None:
    world = World()
    world.new(1, "rest", Side.SELL, 4, 100)
    request = MassCancel(1, 1, 17, "m", MassCancelRequestType.SECURITY)
    event, changes = skipped(world, request)
    answer = event.answer
    assert isinstance(answer, BusinessRejected)
    assert (answer.ref_seq_num, answer.ref_msg_type, answer.ref_id) == (17, "q", "m")
    assert (changes, list(world.opens)) == ([], [(1, "rest")])


def test_an_order_for_cash_gets_all_of_it_back() -> None:
    order = msgspec.structs.replace(
        NEW,
        ord_type=OrdType.MARKET,
        time_in_force=TimeInForce.IOC,
        qty_lots=0,
        conditions=OrderConditions(cash=3_060),
    )
    _, changes = skipped(World(), order)
    assert changes == [BalanceChange(7, "EUR", 3_060, -3_060, 0)]


@pytest.mark.parametrize("payload", [b"", b"garbage", *map(encode_command, (CancelAll(3), Tick()))])
def test_what_nobody_waits_for_answers_nobody(payload: bytes) -> None:
    world = World()
    world.new(3, "rest", Side.BUY, 5, 100)
    output = world.skip(payload, WHY)
    assert output.events == [Skipped(0, 0, "", WHY, None)]
    assert (output.changes, world.settlements[-1].reports()) == ([], [])
    assert (3, "rest") in world.opens


def test_the_sender_is_told_in_its_outbox() -> None:
    world = World()
    output = world.skip(encode_command(NEW), WHY)
    [(account, report)] = world.settlements[-1].reports()
    assert account == 7
    assert decode_output(report).events == output.events


def test_skipping_is_the_same_each_time_and_the_next_input_follows() -> None:
    shards = [Shard(), Shard()]
    made = []
    for shard in shards:
        shard.apply(SYMBOL, 1, 50, DEFINE)
        applied = shard.skip(SYMBOL, 2, 60, encode_command(NEW), WHY)
        made.append(encode_settlement(applied))
        assert decode_output(encode_output(applied.output)) == applied.output
        assert (shard.position(SYMBOL), applied.output.ts_us) == (2, 60)
        shard.apply(SYMBOL, 3, 60, CancelAll(1))
    assert made[0] == made[1]
    assert shards[0].state_hash(SYMBOL) == shards[1].state_hash(SYMBOL)


def test_a_stamp_that_falls_counts_as_the_last_one() -> None:
    shard = Shard()
    shard.apply(SYMBOL, 1, 50, DEFINE)
    assert shard.skip(SYMBOL, 2, 3, b"x", WHY).output.ts_us == 50
    with pytest.raises(AssertionError, match="stamps never fall"):
        shard.apply(SYMBOL, 3, 49, CancelAll(1))


@pytest.mark.parametrize("seq", [1, 3])
def test_a_skip_out_of_sequence_changes_nothing(seq: int) -> None:
    shard = Shard()
    shard.apply(SYMBOL, 1, 50, DEFINE)
    before = shard.state_hash(SYMBOL)
    with pytest.raises(SequenceGap, match="expected seq 2"):
        shard.skip(SYMBOL, seq, 60, b"x", WHY)
    assert shard.state_hash(SYMBOL) == before


def test_a_definition_is_never_skipped() -> None:
    shard = Shard()
    with pytest.raises(AssertionError, match="defines it"):
        shard.skip(SYMBOL, 1, 50, encode_command(DEFINE), WHY)
    shard.apply(SYMBOL, 1, 50, DEFINE)
    with pytest.raises(AssertionError, match="never skipped"):
        shard.skip(SYMBOL, 2, 50, encode_command(DEFINE), WHY)
