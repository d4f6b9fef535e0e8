"""Market orders and replaces are completed from what stands in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.commands import NewOrder, ReplaceOrder, decode_command
from engine.enums import OrdRejReason, OrdStatus
from engine.events import CancelRejected, OrderRejected, decode_output
from gateway.account_limits import AccountLimits
from gateway.lookups import Lookups
from gateway.pipeline import Inbound
from router import keys
from router.admission import PublishItem, RefuseItem
from router.redis_client import RedisLink
from tests.router_helpers import make_link
from tests.unit.test_gateway_encoder import CANCEL
from tests.unit.test_gateway_encoder import World as Encoding
from tests.unit.test_gateway_orders_in import fix, order

MARKET = order(t40="1", t44=None)


class World(Encoding):
    """The encode stage, with the look that comes behind it."""

    def __init__(self, link: RedisLink) -> None:
        super().__init__(in_flight_max=9)
        self.link = link
        self.lookups = Lookups(link, self.symbols, self.encoder, protection_ppm=50_000)

    async def rests(self, cl_ord_id: str, order_text: str) -> None:
        field = keys.open_field("BTC-USD", cl_ord_id)
        await self.link.call("HSET", keys.open_orders(1001), field, order_text)


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    async with make_link(redis_url) as link:
        yield World(link)


def published(entry: Inbound) -> NewOrder | ReplaceOrder:
    assert isinstance(entry.item, PublishItem)
    command = decode_command(entry.item.command)
    assert isinstance(command, NewOrder | ReplaceOrder)
    assert command.reserved == entry.item.amount
    return command


def refused(entry: Inbound) -> object:
    assert isinstance(entry.item, RefuseItem)
    (event,) = decode_output(entry.item.output).events
    return event


async def test_market_order_takes_a_price_beyond_the_best(world: World) -> None:
    await world.link.call("HSET", keys.BBO, "BTC-USD", "1990 2000 7")
    entry = world.encode(MARKET)
    await world.lookups.complete([entry])
    assert published(entry).price_ticks == 2_100


async def test_market_order_by_cash_reserves_its_cash(world: World) -> None:
    await world.link.call("HSET", keys.BBO, "BTC-USD", "1990 2000 7")
    entry = world.encode(order(t40="1", t44=None, t38=None, t152="75.5"))
    await world.lookups.complete([entry])
    command = published(entry)
    assert (command.price_ticks, command.qty_lots, command.reserved) == (2_100, 0, 755_000)


async def test_market_order_keeps_to_the_limits_of_its_account(world: World) -> None:
    await world.link.call("HSET", keys.BBO, "BTC-USD", "1990 2000 7")
    world.connection.limits = AccountLimits(max_order_value={"USD": 1_574_999})
    entry = world.encode(MARKET)
    await world.lookups.complete([entry])
    event = refused(entry)
    assert isinstance(event, OrderRejected) and event.reason is OrdRejReason.EXCEEDS_LIMIT
    assert event.text.endswith("received 157.5000"), "at 105.00, its worst price"


async def test_market_order_without_a_quote_goes_without_a_price(world: World) -> None:
    for message in (MARKET, order(t40="1", t44=None, t38=None, t152="75.5")):
        entry = world.encode(message)
        await world.lookups.complete([entry])
        assert (published(entry).price_ticks, published(entry).reserved) == (0, 0)


async def test_each_replace_of_a_batch_reserves_on_top_of_its_own_order(world: World) -> None:
    # 1.50 at 100.05 are held; 2.50 are wanted, then 0.50.
    await world.rests("r1", "5 1 2001 150 0 1501126 250 2 1 0")
    await world.rests("r2", "6 1 2001 150 0 1501126 250 2 1 0")
    entries = [
        world.encode(order("G", t11="a1", t41="r1", t38="2.5")),
        world.encode(fix(CANCEL)),
        world.encode(order("G", t11="a2", t41="r2", t38="0.5")),
    ]
    await world.lookups.complete(entries)
    assert published(entries[0]).reserved == 1_000_500 + 251
    assert published(entries[2]).reserved == 0


async def test_replace_of_an_order_that_nobody_knows_reserves_the_whole(world: World) -> None:
    entry = world.encode(order("G"))
    await world.lookups.complete([entry])
    assert published(entry).reserved == 1_500_750 + 376


async def test_chain_on_its_way_reserves_once(world: World) -> None:
    new = world.encode(order(t11="a0"))
    first = world.encode(order("G", t11="a1", t41="a0"))
    await world.lookups.complete([new, first])
    second = world.encode(order("G", t11="a2", t41="a1", t38="2.5"))
    await world.lookups.complete([second])
    commands = [published(entry) for entry in (new, first, second)]
    assert [command.reserved for command in commands] == [1_501_126, 0, 1_000_500 + 251]


async def test_chain_goes_on_from_what_is_filled_of_its_order(world: World) -> None:
    await world.rests("a0", "5 1 2001 100 50 1 250 2 1 100050")
    first = world.encode(order("G", t11="a1", t41="a0"))
    second = world.encode(order("G", t11="a2", t41="a1", t44="100.10"))
    await world.lookups.complete([first, second])
    assert published(first).reserved == 0
    assert published(second).reserved == 50_000 // 100 + 1, "a tick more on the lots that are left"
    known = world.connection.in_flight["BTC-USD", "a2"]
    assert (known.order.order_seq, known.order.leaves_lots, known.order.cum_lots) == (5, 100, 50)


async def test_refusal_says_that_its_order_is_on_its_way(world: World) -> None:
    entries = [
        world.encode(order(t11="a0")),
        world.encode(fix(f"{CANCEL}|1=8")),
        world.encode(order("G", t11="a1", t41="a0", t54="2")),
        world.encode(fix(f"{CANCEL}|1=8".replace("41=a0", "41=a1"))),
    ]
    await world.lookups.complete(entries)
    events = [refused(entry) for entry in entries[1:]]
    assert all(isinstance(event, CancelRejected) and event.order_seq == 0 for event in events)
    assert [event.ord_status for event in events] == [  # type: ignore[attr-defined]
        OrdStatus.PENDING_NEW,
        OrdStatus.PENDING_NEW,
        OrdStatus.PENDING_REPLACE,
    ]


async def test_what_is_answered_while_redis_is_read_is_not_forgotten(world: World) -> None:
    world.encode(order(t11="a0"))
    replaced = world.encode(order("G", t11="a1", t41="a0"))
    look = asyncio.ensure_future(world.lookups.complete([replaced]))
    await asyncio.sleep(0)
    world.connection.answered("BTC-USD", "a0")
    await look
    assert published(replaced).reserved == 0


async def test_refused_cancel_names_the_order_where_there_is_one(world: World) -> None:
    await world.rests("a0", "5 1 2001 100 50 1 250 2 1 100050")
    known = world.encode(fix(f"{CANCEL}|1=8"))
    unknown = world.encode(fix(f"{CANCEL}|1=8".replace("41=a0", "41=zz")))
    await world.lookups.complete([known, unknown])
    first, second = refused(known), refused(unknown)
    assert isinstance(first, CancelRejected) and isinstance(second, CancelRejected)
    assert (first.order_seq, first.ord_status) == (5, OrdStatus.PARTIALLY_FILLED)
    assert (second.order_seq, second.ord_status) == (0, OrdStatus.REJECTED)


async def test_what_is_complete_is_left_alone(world: World) -> None:
    entry = world.encode(order())
    item = entry.item
    await world.link.close()
    await world.lookups.complete([entry])
    assert entry.item is item
