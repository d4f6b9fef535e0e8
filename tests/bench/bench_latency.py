"""How long an acknowledgement takes: `python -m tests.bench.bench_latency [--orders N]`.

One order at a time on an otherwise idle private venue with default durability, everything running:
from the moment before the order is rendered and written until its 35=8 with ExecType New has been
read and framed. The orders rest and do not trade; the client is this process, on uvloop. Beside it
stands what the same disk takes to sync 4 KiB, before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from engine.enums import Side, TimeInForce
from gateway.fix_message import FixMessage
from gateway.fix_time import UtcTimestampWriter
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator
from ops.fix_orders import OrderBodies
from ops.private_venue import PrivateSymbol, private_venue
from tests.bench.machine import fdatasync_us, percentile

SYMBOL = "ALFA-USD"
ORDERS = 2_000
QUICK_ORDERS = 300
WARM_UP_ORDERS = 50
_ACK_TIMEOUT_S = 10.0
_LOWEST_TICKS, _PRICES = 4_000, 500


async def measure(orders: int, parent: Path) -> dict[str, Any]:
    """Return the figures, in µs."""
    sync_before_us, sync_before_p99_us = fdatasync_us(parent)
    async with private_venue([PrivateSymbol(SYMBOL)], parent=parent) as venue:
        user, gateway = venue.endpoints.users[0], venue.endpoints.fix[0]
        identity = Identity(
            user.sender_comp_id, venue.endpoints.target_comp_id, user.username, user.password
        )
        answers: asyncio.Queue[FixMessage] = asyncio.Queue()
        make = OrderBodies(SYMBOL, tick_size="0.01", lot_size="1", stp=None)

        def on_messages(messages: list[FixMessage]) -> None:
            for message in messages:
                answers.put_nowait(message)

        async with FixClient(Initiator(identity), on_messages=on_messages) as client:
            await client.connect(gateway.host, gateway.port, reset=True)
            times_us = [
                await time_one(client, answers, make, number)
                for number in range(orders + WARM_UP_ORDERS)
            ][WARM_UP_ORDERS:]
        sync_after_us, sync_after_p99_us = fdatasync_us(parent)
    p50_us = statistics.median(times_us)
    sync_us = statistics.median((sync_before_us, sync_after_us))
    return {
        "orders": orders,
        "p50_us": p50_us,
        "p99_us": percentile(times_us, 99),
        "fdatasync_us": sync_us,
        "fdatasync_p99_us": max(sync_before_p99_us, sync_after_p99_us),
        "limit_us": 3 * sync_us + 2_000,
        "aim_us": 2 * sync_us + 1_000,
    }


async def time_one(
    client: FixClient, answers: asyncio.Queue[FixMessage], make: OrderBodies, number: int
) -> float:
    """Send one order and return how long its acknowledgement took, in µs."""
    cl_ord_id = b"%d" % number
    start_ns = time.perf_counter_ns()
    body = make.new(
        cl_ord_id,
        Side.BUY,
        price_ticks=_LOWEST_TICKS + number % _PRICES,
        qty_lots=1,
        time_in_force=TimeInForce.GTC,
        time=UtcTimestampWriter().write(time.time_ns()),
    )
    client.send(*body)
    client.flush()
    async with asyncio.timeout(_ACK_TIMEOUT_S):
        message = await answers.get()
    elapsed_us = (time.perf_counter_ns() - start_ns) / 1_000
    fields = message.fields
    assert (fields[b"35"], fields[b"150"], fields[b"11"]) == (b"8", b"0", cl_ord_id), message.raw
    return elapsed_us


def describe(result: dict[str, Any]) -> list[str]:
    """Return the result as lines."""
    return [
        f"acknowledgement, one order at a time, Python {sys.version.split()[0]}, "
        f"{result['orders']:,} orders:",
        f"  {result['p50_us']:>10,.0f} us p50 (limit {result['limit_us']:,.0f}, aim "
        f"{result['aim_us']:,.0f})",
        f"  {result['p99_us']:>10,.0f} us p99",
        f"  {result['fdatasync_us']:>10,.0f} us fdatasync of 4 KiB, median "
        f"(p99 {result['fdatasync_p99_us']:,.0f})",
    ]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, check, print, and return the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ORDERS} orders")
    args = parser.parse_args(arguments)
    parent = Path("var")
    parent.mkdir(exist_ok=True)
    result = uvloop.run(measure(QUICK_ORDERS if args.quick else args.orders, parent))
    print("\n".join(describe(result)))
    return result


if __name__ == "__main__":
    main()
