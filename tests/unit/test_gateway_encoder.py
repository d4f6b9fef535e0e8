"""The encode stage: requests and their items, within the limits of their session."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from engine.commands import CancelOrder, MassCancel, NewOrder, QueryOrder, decode_command
from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    MassCancelRequestType,
    OrdRejReason,
    Side,
)
from engine.events import (
    BusinessRejected,
    CancelRejected,
    MassCancelReported,
    OrderRejected,
    decode_output,
)
from gateway.account_limits import NO_LIMITS, AccountLimits
from gateway.encoder import Encoder, needs_lookup
from gateway.fix_message import FixMessage
from gateway.fix_time import NS_PER_SECOND
from gateway.mass_requests import decode_query
from gateway.pipeline import Inbound
from gateway.refusals import MassStatusQuery
from gateway.session_events import AdminMessage, AppMessage
from gateway.settings import GatewaySettings
from gateway.symbol_texts import SymbolTable
from gateway.throttle import TokenBucket
from router.admission import MassCancelItem, MassStatusItem, PublishItem, RefuseItem
from tests.unit.test_gateway_orders_in import TIME, fix, order, rules_of

NOW_NS = 1_767_323_045 * NS_PER_SECOND
MASS_CANCEL = f"35=q|11=q1|530=7|60={TIME.decode()}"
ALL = MassCancelRequestType.ALL
CANCEL = f"35=F|41=a0|11=c1|55=BTC-USD|54=1|60={TIME.decode()}"


class World:
    def __init__(self, *, in_flight_max: int = 2) -> None:
        self.symbols = SymbolTable([rules_of()])
        settings = GatewaySettings(orders_in_flight_max=in_flight_max, orders_per_s_max=3)
        self.encoder = Encoder(self.symbols, settings)
        self.connection = SimpleNamespace(
            account=1001,
            epoch=5,
            number=7,
            in_flight={},
            new_in_flight=set(),
            open_orders=0,
            only_reads=False,
            limits=NO_LIMITS,
            bucket=TokenBucket(settings.orders_per_s_max, period_ns=NS_PER_SECOND),
        )
        self.connection.answered = self.answered
        self.rate_counts: list[int] = []
        self.rate_problem = ""
        self.connection.problem_of_rate = self.problem_of_rate

    def answered(self, symbol: str, cl_ord_id: str) -> None:
        self.connection.in_flight.pop((symbol, cl_ord_id), None)
        self.connection.new_in_flight.discard((symbol, cl_ord_id))

    def problem_of_rate(self, count: int, now_ns: int) -> str:
        assert now_ns == NOW_NS
        self.rate_counts.append(count)
        return self.rate_problem

    def encode(
        self, message: FixMessage, *, sent_ns: int | None = None, poss_resend: bool = False
    ) -> Inbound:
        event = AppMessage(message.raw, message, 42, sent_ns is not None, poss_resend, sent_ns)
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
    assert list(world.connection.in_flight) == [("BTC-USD", "a1")]


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


@pytest.mark.parametrize(
    ("quantity", "lots"),
    [("1.5", 150), ("1.505", 0), ("0.00", 0), ("-1", 0), ("600", 60_000), ("9" * 17, 0), (None, 0)],
)
def test_refused_order_repeats_its_quantity_where_it_is_one(
    world: World, quantity: str | None, lots: int
) -> None:
    cash = "100" if quantity is None else None
    assert world.refused(order(t38=quantity, t152=cash, t1="1002")).qty_lots == lots


def refusing_query(entry: Inbound) -> QueryOrder:
    assert isinstance(entry.item, PublishItem)
    query = decode_command(entry.item.command)
    assert isinstance(query, QueryOrder)
    assert (query.account, query.session, query.msg_seq_num) == (1001, 7, 42)
    return query


def test_refused_resend_asks_its_engine_first(world: World) -> None:
    query = refusing_query(world.encode(order(t44="100.001"), poss_resend=True))
    assert query.refusal is not None and query.refusal.response_to is None
    assert (query.cl_ord_id, query.side, query.refusal.qty_lots) == ("a1", Side.BUY, 150)
    assert query.refusal.reason == OrdRejReason.OTHER
    query = refusing_query(world.encode(order("G", t44="100.001"), poss_resend=True))
    assert query.refusal is not None and query.refusal.orig_cl_ord_id == "a0"
    assert query.refusal.response_to is CxlRejResponseTo.REPLACE
    query = refusing_query(world.encode(fix(f"{CANCEL}|1=8"), poss_resend=True))
    assert query.refusal is not None
    assert query.refusal.response_to is CxlRejResponseTo.CANCEL
    item = world.encode(order(t55="NONE-USD"), poss_resend=True).item
    assert isinstance(item, RefuseItem), "there is no engine to ask"


def test_resend_has_a_query_where_there_is_no_money(world: World) -> None:
    item = world.encode(order(), poss_resend=True).item
    assert isinstance(item, PublishItem)
    command, instead = decode_command(item.command), decode_command(item.instead)
    assert isinstance(command, NewOrder) and command.poss_resend
    assert isinstance(instead, QueryOrder) and instead.refusal is not None
    assert instead.refusal.text == "Insufficient funds: 150.1126 USD needed"
    item = world.encode(order(t11="a2")).item
    assert isinstance(item, PublishItem) and not item.instead


def test_account_has_a_number_of_open_orders(world: World) -> None:
    world.connection.limits = AccountLimits(max_open_orders=2)
    world.connection.bucket = TokenBucket(10, period_ns=NS_PER_SECOND)
    world.connection.open_orders = 1
    assert isinstance(world.encode(order(t11="a1")).item, PublishItem)
    refused = world.refused(order(t11="a2"))
    assert refused.reason is OrdRejReason.EXCEEDS_LIMIT
    assert refused.text == "Open orders: at most 2 of this account"
    assert world.encode(order("G", t11="a3", t41="a0")).item is None, "it opens none"
    world.connection.answered("BTC-USD", "a1")
    assert isinstance(world.encode(order(t11="a4")).item, PublishItem)


def test_changed_rules_do_not_count_an_order_twice(world: World) -> None:
    world.connection.limits = AccountLimits(max_open_orders=1)
    entry = world.encode(order())
    world.symbols.update([rules_of(version=4)])
    world.encoder.refresh([entry])
    assert isinstance(entry.item, PublishItem)
    assert world.connection.new_in_flight == {("BTC-USD", "a1")}


def test_account_has_a_value_of_orders(world: World) -> None:
    world.connection.limits = AccountLimits(max_order_value={"USD": 1_500_750})
    assert isinstance(world.encode(order()).item, PublishItem)
    refused = world.refused(order(t11="a2", t38="1.51"))
    assert refused.reason is OrdRejReason.EXCEEDS_LIMIT
    text = "Order value: at most 150.0750 USD of this account, received 151.0755"
    assert refused.text == text
    replaced = world.encode(order("G", t38="1.51")).request
    assert replaced is not None and isinstance(replaced.content, CancelRejected)
    assert (replaced.content.reason, replaced.content.text) == (CxlRejReason.OTHER, text)


def test_account_has_a_rate_of_its_own(world: World) -> None:
    world.connection.limits = AccountLimits(orders_per_s=1)
    world.connection.bucket = TokenBucket(1, period_ns=NS_PER_SECOND)
    assert isinstance(world.encode(order()).item, PublishItem)
    assert world.refused(order(t11="a2")).text == "Rate limit: at most 1 orders per second"
    assert isinstance(world.encode(fix(CANCEL)).item, PublishItem)
    assert isinstance(world.encode(fix(MASS_CANCEL)).item, MassCancelItem)


def test_mass_cancel_of_a_security_is_a_command_of_its_symbol(world: World) -> None:
    item = world.encode(fix(MASS_CANCEL.replace("530=7", "530=1|55=BTC-USD"))).item
    assert isinstance(item, PublishItem)
    assert (item.symbol, item.amount, item.may_wait) == ("BTC-USD", 0, True)
    assert isinstance(decode_command(item.command), MassCancel)


def test_mass_cancel_of_all_has_its_answer_with_it(world: World) -> None:
    item = world.encode(fix(MASS_CANCEL)).item
    assert isinstance(item, MassCancelItem)
    assert (item.account, item.epoch, item.msg_seq_num) == (1001, 5, 42)
    assert decode_command(item.command) == MassCancel(1001, 7, 42, "q1", ALL)
    output = decode_output(item.answer)
    assert (output.symbol, output.seq, output.ts_us) == ("", 0, NOW_NS // 1_000)
    (event,) = output.events
    assert isinstance(event, MassCancelReported) and event.response is ALL


def test_refused_mass_cancel_is_an_answer_alone(world: World) -> None:
    item = world.encode(fix(MASS_CANCEL.replace("530=7", "530=6"))).item
    assert isinstance(item, RefuseItem)
    (event,) = decode_output(item.output).events
    assert isinstance(event, MassCancelReported) and event.response == 0


def test_mass_status_names_its_orders(world: World) -> None:
    item = world.encode(fix("35=AF|584=s1|585=1|55=BTC-USD|54=2")).item
    assert isinstance(item, MassStatusItem)
    assert (item.symbol, item.side) == ("BTC-USD", 2)
    assert decode_query(item.request) == MassStatusQuery("s1", "BTC-USD", Side.SELL)
    item = world.encode(fix("35=AF|584=s1|585=7")).item
    assert isinstance(item, MassStatusItem) and (item.symbol, item.side) == ("", 0)


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


def test_status_requests_have_a_rate_and_cancels_have_none(world: World) -> None:
    world.connection.open_orders = 300
    queries = [fix("35=H|11=a0|55=BTC-USD|54=1|790=q7"), fix("35=AF|584=m1|585=7")]
    cancels = [fix(CANCEL), fix(MASS_CANCEL)]
    for message in (*queries, *cancels):
        item = world.encode(message).item
        assert not isinstance(item, RefuseItem) or message.msg_type == b"q"
    assert world.rate_counts == [1, 300]
    world.rate_problem = "Rate limit"
    for message, ref_id in zip(queries, ("a0", "m1"), strict=True):
        item = world.encode(message).item
        assert isinstance(item, RefuseItem)
        (event,) = decode_output(item.output).events
        assert isinstance(event, BusinessRejected)
        assert (event.reason, event.text) == (BusinessRejectReason.OTHER, "Rate limit")
        assert (event.ref_id, event.ref_msg_type) == (ref_id, message.msg_type.decode())
    assert isinstance(world.encode(cancels[0]).item, PublishItem)
    assert isinstance(world.encode(cancels[1]).item, MassCancelItem)
    assert len(world.rate_counts) == 4


def test_resent_orders_beyond_their_rate_are_queries_and_have_the_rate_of_queries(
    world: World,
) -> None:
    world.connection.bucket = TokenBucket(1, period_ns=NS_PER_SECOND)
    world.encode(order(), poss_resend=True)
    assert world.rate_counts == []
    refusing_query(world.encode(order(t11="a2"), poss_resend=True))
    assert world.rate_counts == [1]
    world.rate_problem = "Rate limit"
    item = world.encode(order("G", t11="a3"), poss_resend=True).item
    assert isinstance(item, RefuseItem)
    (event,) = decode_output(item.output).events
    assert isinstance(event, BusinessRejected), "says nothing about the order, which may be open"
    assert (event.reason, event.text) == (BusinessRejectReason.OTHER, "Rate limit")
    assert (event.ref_id, event.ref_msg_type) == ("a3", "G")


def test_an_account_without_open_orders_still_counts_its_lists(world: World) -> None:
    world.connection.open_orders = -1
    world.encode(fix("35=AF|584=m1|585=7"))
    assert world.rate_counts == [1]
