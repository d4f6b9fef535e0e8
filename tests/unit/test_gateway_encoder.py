"""The encode stage: requests and their items, within the limits of their session."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from engine.commands import CancelOrder, NewOrder, decode_command
from engine.enums import OrdRejReason
from engine.events import OrderRejected, decode_output
from gateway.encoder import Encoder, needs_lookup
from gateway.fix_message import FixMessage
from gateway.fix_time import NS_PER_SECOND
from gateway.pipeline import Inbound
from gateway.session_events import AdminMessage, AppMessage
from gateway.settings import GatewaySettings
from gateway.symbol_texts import SymbolTable
from gateway.throttle import TokenBucket
from router.admission import PublishItem, RefuseItem
from tests.unit.test_gateway_orders_in import TIME, fix, order, rules_of

NOW_NS = 1_767_323_045 * NS_PER_SECOND
CANCEL = f"35=F|41=a0|11=c1|55=BTC-USD|54=1|60={TIME.decode()}"


class World:
    def __init__(self) -> None:
        self.symbols = SymbolTable([rules_of()])
        settings = GatewaySettings(orders_in_flight_max=2, orders_per_s_max=3)
        self.encoder = Encoder(self.symbols, settings)
        self.connection = SimpleNamespace(
            account=1001,
            epoch=5,
            number=7,
            in_flight=set(),
            bucket=TokenBucket(settings.orders_per_s_max, period_ns=NS_PER_SECOND),
        )

    def encode(self, message: FixMessage, *, sent_ns: int | None = None) -> Inbound:
        event = AppMessage(message.raw, message, 42, sent_ns is not None, False, sent_ns)
        entry = Inbound(self.connection, event, NOW_NS)
        self.encoder.encode([entry], end_of_batch=True)
        return entry

    def refused(self, message: FixMessage, *, sent_ns: int | None = None) -> OrderRejected:
        item = self.encode(message, sent_ns=sent_ns).item
        assert isinstance(item, RefuseItem)
        output = decode_output(item.output)
        assert (output.seq, output.ts_us) == (0, NOW_NS // 1_000)
        (event,) = output.events
        assert isinstance(event, OrderRejected)
        return event


@pytest.fixture
def world() -> World:
    return World()


def test_order_names_what_it_reserves_and_counts_as_in_flight(world: World) -> None:
    item = world.encode(order()).item
    assert isinstance(item, PublishItem)
    assert (item.account, item.epoch, item.msg_seq_num, item.symbol) == (1001, 5, 42, "BTC-USD")
    assert (item.asset, item.amount, item.rules_version) == ("USD", 1_501_126, 3)
    assert isinstance(decode_command(item.command), NewOrder)
    assert world.connection.in_flight == {"a1"}


def test_cancel_reserves_nothing_and_is_never_limited(world: World) -> None:
    for _ in range(10):
        item = world.encode(fix(CANCEL)).item
        assert isinstance(item, PublishItem)
        assert (item.asset, item.amount, item.rules_version) == ("", 0, 0)
        assert isinstance(decode_command(item.command), CancelOrder)
    assert not world.connection.in_flight


def test_orders_beyond_the_limits_are_refused(world: World) -> None:
    world.encode(order(t11="a1"))
    world.encode(order(t11="a2"))
    in_flight = world.refused(order(t11="a3"))
    assert in_flight.reason is OrdRejReason.EXCEEDS_LIMIT
    assert in_flight.text == "Orders in flight: at most 2 may be unanswered"
    world.connection.in_flight.clear()
    fast = world.refused(order(t11="a4"))
    assert (fast.reason, fast.text[:10]) == (OrdRejReason.OTHER, "Rate limit")


def test_only_an_old_resend_is_stale(world: World) -> None:
    age_ns = 10 * NS_PER_SECOND
    assert isinstance(world.encode(order(), sent_ns=NOW_NS - age_ns).item, PublishItem)
    assert world.refused(order(), sent_ns=NOW_NS - age_ns - 1).reason is OrdRejReason.STALE_ORDER


@pytest.mark.parametrize("message", [order("G"), order(t40="1", t44=None)])
def test_replaces_and_market_orders_wait_for_a_look(world: World, message: FixMessage) -> None:
    entry = world.encode(message)
    assert entry.item is None and entry.request is not None and needs_lookup(entry.request)


def test_changed_rules_translate_orders_again(world: World) -> None:
    stays, changes = world.encode(fix(CANCEL)), world.encode(order())
    before = stays.item
    world.symbols.update([msgspec.structs.replace(rules_of(version=4), min_notional=10**9)])
    world.encoder.refresh([stays, changes])
    assert stays.item is before
    assert isinstance(changes.item, RefuseItem)
    again = world.encode(order(t11="a9", t38="400", t44="1000"))
    assert isinstance(again.item, PublishItem) and again.item.rules_version == 4


def test_other_messages_ask_for_nothing(world: World) -> None:
    entry = Inbound(world.connection, AdminMessage(b"x", b"0", 2), NOW_NS)
    world.encoder.encode([entry], end_of_batch=True)
    assert entry.request is None and entry.item is None
