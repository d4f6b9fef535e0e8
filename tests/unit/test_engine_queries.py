"""How orders are found, and how messages that came before are answered."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from engine.commands import CancelOrder, NewOrder, QueryOrder, ReplaceOrder, ResentRefusal
from engine.commands import decode_command as decode
from engine.enums import (
    CxlRejReason,
    CxlRejResponseTo,
    MassCancelRequestType,
    OrdRejReason,
    OrdStatus,
    Side,
    TradingPhase,
)
from engine.events import (
    CancelRejected,
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderReplaced,
    OrderStatusReported,
)
from engine.limits import RECENT_CL_ORD_IDS_MAX
from tests.matching_world import World

ME, OTHER = 1, 2


def chained(world: World) -> int:
    """Have the order "a" replaced by "b", then by "c"; return its OrderID's number."""
    (accepted,) = world.new(ME, "a", Side.BUY, 10, 100).events
    assert isinstance(accepted, OrderAccepted)
    world.apply(world.replacing(ME, "b", "a", Side.BUY, 10, 99))
    world.apply(world.replacing(ME, "c", "b", Side.BUY, 10, 98))
    return accepted.order_seq


def status(world: World, cl_ord_id: str, order_seq: int = 0, account: int = ME) -> tuple[int, int]:
    """Return OrderID's number and the status that a status request finds."""
    (event,) = world.query(account, cl_ord_id, order_seq).events
    assert isinstance(event, OrderStatusReported) and event.cl_ord_id == cl_ord_id
    return event.order_seq, event.ord_status


def test_order_is_found_by_every_cl_ord_id_that_it_had() -> None:
    world = World()
    seq = chained(world)
    assert {status(world, one) for one in "abc"} == {(seq, OrdStatus.NEW)}
    world.cancel(ME, "x", "c")
    assert {status(world, one) for one in "abcx"} == {(seq, OrdStatus.CANCELED)}


def test_order_is_found_by_its_order_id_under_the_id_of_a_mass_cancel() -> None:
    world = World()
    seq = chained(world)
    other = world.new(ME, "o", Side.BUY, 10, 100).seq
    assert status(world, "m", seq) == (seq, OrdStatus.NEW)
    world.mass_cancel(ME, "m", request_type=MassCancelRequestType.SECURITY)
    assert status(world, "m") == (0, OrdStatus.REJECTED)
    assert [status(world, "m", one) for one in (seq, other)] == [
        (seq, OrdStatus.CANCELED),
        (other, OrdStatus.CANCELED),
    ]


def test_order_of_another_id_or_account_is_unknown() -> None:
    world = World()
    seq = chained(world)
    other = world.new(ME, "o", Side.BUY, 10, 100).seq
    for cl_ord_id in ("a", "c"):
        assert status(world, cl_ord_id, other) == (0, OrdStatus.REJECTED)
    world.cancel(ME, "x", "o")
    for cl_ord_id in ("o", "x"):
        assert status(world, cl_ord_id, seq) == (0, OrdStatus.REJECTED)
    assert status(world, "a", account=OTHER) == (0, OrdStatus.REJECTED)
    world.new(OTHER, "z", Side.BUY, 1, 1)
    assert status(world, "a", seq, account=OTHER) == (0, OrdStatus.REJECTED)
    assert status(world, "a", 999) == (0, OrdStatus.REJECTED)


def test_what_is_forgotten_is_unknown_and_never_half_known() -> None:
    world = World()
    chained(world)
    world.cancel(ME, "x", "c")
    for number in range(RECENT_CL_ORD_IDS_MAX - 1):
        world.new(ME, f"n{number}", Side.BUY, 1, 1)
        world.cancel_all(ME)
    assert status(world, "c")[1] is OrdStatus.CANCELED
    assert [status(world, one)[1] for one in "abx"] == [OrdStatus.REJECTED] * 3


def again(world: World, place: int) -> list[Event]:
    """Apply an earlier command once more, as a message with PossResend=Y."""
    command = decode(world.commands[place])
    assert isinstance(command, NewOrder | CancelOrder | ReplaceOrder)
    return world.apply(msgspec.structs.replace(command, poss_resend=True)).events


def close(world: World) -> None:
    world.set_phase(TradingPhase.CLOSED)


def rest(world: World) -> None:
    """Change nothing."""


def trade(world: World) -> None:
    world.new(OTHER, "t", Side.SELL, 4, 1)


@pytest.mark.parametrize(
    ("meanwhile", "expected"),
    [(rest, OrdStatus.NEW), (trade, OrdStatus.PARTIALLY_FILLED), (close, OrdStatus.NEW)],
)
def test_what_came_before_is_answered_by_how_the_order_stands(
    meanwhile: Callable[[World], None], expected: OrdStatus
) -> None:
    world = World()
    seq = chained(world)
    meanwhile(world)
    before = world.opens.copy(), world.balances[ME, "EUR"][0]
    # Behind the definition: D a, G b, G c.
    for place, cl_ord_id in enumerate("abc", 1):
        (event,) = again(world, place)
        assert isinstance(event, OrderStatusReported)
        found = (event.order_seq, event.cl_ord_id, event.ord_status, event.ord_status_req_id)
        assert found == (seq, cl_ord_id, expected, "")
    assert (world.opens, world.balances[ME, "EUR"][0]) == before


def test_cancel_that_came_before_cancels_nothing_else() -> None:
    world = World()
    seq = chained(world)
    world.cancel(ME, "x", "c")
    other = CancelOrder(ME, ME, 0, "x", "o", 0, poss_resend=True)
    world.new(ME, "o", Side.BUY, 10, 100)
    for event in (*again(world, 4), *world.apply(other).events):
        assert isinstance(event, OrderStatusReported)
        assert (event.order_seq, event.ord_status) == (seq, OrdStatus.CANCELED)
    assert (ME, "o") in world.opens


def test_what_never_came_is_done_as_new() -> None:
    world = World()
    world.new(ME, "refused", Side.BUY, 10, 100, version=7)
    new = msgspec.structs.replace(decode(world.commands[1]), rules_version=1, poss_resend=True)
    (event,) = world.apply(new).events
    assert isinstance(event, OrderAccepted), "a refused order uses up nothing"
    replace = world.replacing(ME, "b", "refused", Side.BUY, 10, 99)
    (event,) = world.apply(msgspec.structs.replace(replace, poss_resend=True)).events
    assert isinstance(event, OrderReplaced)
    (event,) = world.apply(CancelOrder(ME, ME, 0, "x", "b", 0, poss_resend=True)).events
    assert isinstance(event, OrderCanceled)


def test_query_in_place_of_a_refused_order() -> None:
    world = World()
    seq = chained(world)
    refusal = ResentRefusal(OrdRejReason.EXCEEDS_LIMIT, "no money", 7)
    (known,) = world.apply(QueryOrder(ME, ME, 0, "a", 0, Side.BUY, "", refusal)).events
    assert isinstance(known, OrderStatusReported) and known.order_seq == seq
    (event,) = world.apply(QueryOrder(ME, ME, 0, "new", 0, Side.SELL, "", refusal)).events
    assert isinstance(event, OrderRejected)
    assert (event.cl_ord_id, event.side, event.qty_lots) == ("new", Side.SELL, 7)
    assert (event.reason, event.text) == (OrdRejReason.EXCEEDS_LIMIT, "no money")


def test_query_in_place_of_a_refused_replace() -> None:
    world = World()
    seq = chained(world)
    to = CxlRejResponseTo.REPLACE
    refusal = ResentRefusal(CxlRejReason.OTHER, "too fast", 0, "c", to)
    (known,) = world.apply(QueryOrder(ME, ME, 0, "b", 0, Side.BUY, "", refusal)).events
    assert isinstance(known, OrderStatusReported) and known.order_seq == seq
    (event,) = world.apply(QueryOrder(ME, ME, 0, "d", 0, Side.BUY, "", refusal)).events
    assert isinstance(event, CancelRejected)
    assert (event.cl_ord_id, event.orig_cl_ord_id, event.response_to) == ("d", "c", to)
    assert (event.order_seq, event.ord_status) == (seq, OrdStatus.NEW)
    assert (event.reason, event.text) == (CxlRejReason.OTHER, "too fast")
