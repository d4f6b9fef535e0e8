"""Gateways on a real Redis with real engines: FIX in, FIX out, over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.server import Gateway
from tests.venue import Venue, running_venue

USD = 10_000
BTC = 100_000_000


@pytest.fixture
async def venue(redis_url: str, tmp_path: Path) -> AsyncIterator[Venue]:
    async with running_venue(redis_url, tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(venue: Venue) -> AsyncIterator[Gateway]:
    async with venue.gateway() as running:
        yield running


def order(cl_ord_id: str, side: int, qty: str, price: str, more: str = "") -> str:
    return f"35=D|11={cl_ord_id}|55=BTC-USD|54={side}|60=now|38={qty}|40=2|44={price}{more}"


async def test_two_clients_trade(venue: Venue, gateway: Gateway) -> None:
    seller = await venue.add_user("seller", BTC=10 * BTC)
    buyer = await venue.add_user("buyer", USD=10_000 * USD)
    maker = await venue.log_on(gateway, seller, "seller")
    taker = await venue.log_on(gateway, buyer, "buyer")
    maker.send(order("s1", 2, "2", "100"))
    new = await maker.expect("8", t150="0", t39="0", t11="s1", t55="BTC-USD", t38="2.00")
    taker.send(order("b1", 1, "1.5", "101"))
    await taker.expect("8", t150="0", t11="b1")
    fill = await taker.expect("8", t150="F", t39="2", t31="100.00", t32="1.50", t851="2")
    assert (fill["137"], fill["138"], fill["151"], fill["6"]) == ("0.0375", "USD", "0.00", "100.00")
    made = await maker.expect("8", t150="F", t39="1", t11="s1", t851="1", t37=new["37"])
    assert (made["527"], made["137"], made["14"]) == (fill["527"], "0.0150", "1.50")
    maker.send("35=F|11=s2|41=s1|55=BTC-USD|54=2|60=now")
    await maker.expect("8", t150="4", t39="4", t11="s2", t41="s1", t151="0.00")
    balances = await venue.balances(buyer)
    assert balances["BTC"].available == 150_000_000
    assert balances["USD"].available == 10_000 * USD - 150 * USD - 375
    assert (balances["USD"].pending, balances["USD"].held) == (0, 0)
