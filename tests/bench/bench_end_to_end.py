"""The whole exchange under load: `python -m tests.bench.bench_end_to_end [--seconds N]`.

A private venue as an operator runs it: two gateways, two engines, market data, writer, Redis with
AOF always, PostgreSQL, journals on; four sessions trade in four symbols on two shards, half of the
orders crossing. The load generator is this process, on the same machine.

Every order must be acknowledged and filled, nothing refused; then the money in Redis is added up
against the deposits, PostgreSQL must have every order and trade, and its balances, which come from
events, must be those of Redis.

Left out: clients' own work, network, cancels, order types other than limit, deep books.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from ops.progress import ProgressReader
from ops.wiring import accounts_link, shard_map
from router.ledger import Balance, read_balances, read_totals
from router.users import list_users
from tests.bench.load import LoadSession, connect_all, drive
from tests.bench.machine import calibration_ms, cpu_seconds, fdatasync_us
from tests.helpers import eventually_async

SYMBOLS = ("ALFA-USD", "BETA-USD", "GAMMA-USD", "DELTA-USD")
SECONDS = 60.0
QUICK_SECONDS = 10.0
_SETTLE_TIMEOUT_S = 120.0


def process_name(arguments: list[str]) -> str:
    """Return the part of the exchange that a command line starts."""
    program = Path(arguments[0].split(" ")[0]).name
    if "redis" in program:
        return "redis"
    if program.startswith("postgres"):
        return "postgres"
    command = arguments[arguments.index("ops") + 1] if "ops" in arguments else program
    if "--standby" in arguments and command == "engine":
        return "standbys"
    return {"up": "up (supervisor)", "gateway": "gateways", "engine": "engines"}.get(
        command, command
    )


async def measure(seconds: float, parent: Path, *, standby: bool) -> dict[str, Any]:
    """Run the load and return the figures; every check has held.

    Args:
        standby: with a second engine per shard.
    """
    symbols = [PrivateSymbol(name, maker_fee_ppm=100, taker_fee_ppm=200) for name in SYMBOLS]
    sync_us, sync_p99_us = fdatasync_us(parent)
    calibrated_ms = calibration_ms()
    async with private_venue(
        symbols, parent=parent, shards=2, gateways=2, standby=standby
    ) as venue:
        sessions = await connect_all(venue.endpoints, LoadSession)
        before = cpu_seconds(venue.pid, process_name)
        before_own = time.process_time()
        elapsed_s = await drive(sessions, SYMBOLS, seconds=seconds)
        own_s = time.process_time() - before_own
        orders = sum(session.sent for session in sessions)
        caught_up_s = await check(venue, sessions, orders)
        after = cpu_seconds(venue.pid, process_name)
        for session in sessions:
            await session.logout()
    cpu_us = {name: (after[name] - before.get(name, 0)) / orders * 1e6 for name in after}
    cpu_us["load generator"] = own_s / orders * 1e6
    reports = sum(session.tally.reports for session in sessions)
    return {
        "orders": orders,
        "seconds": elapsed_s,
        "orders_per_s": orders / elapsed_s,
        "reports_per_s": reports / elapsed_s,
        "reports_per_order": reports / orders,
        "cpu_us_per_order": cpu_us,
        "writer_behind_s": caught_up_s,
        "fdatasync_us": sync_us,
        "fdatasync_p99_us": sync_p99_us,
        "calibration_ms": calibrated_ms,
    }


async def check(venue: PrivateVenue, sessions: Sequence[LoadSession], orders: int) -> float:
    """Assert that everything happened; return how long PostgreSQL took to have it all, in s."""
    tallies = [session.tally for session in sessions]
    async with asyncio.timeout(_SETTLE_TIMEOUT_S):
        for session in sessions:
            while session.tally.filled < session.sent:
                await session.hear()
    fills = sum(tally.fills for tally in tallies)
    assert sum(tally.acks for tally in tallies) == orders, "every order is acknowledged"
    assert sum(tally.filled for tally in tallies) == orders, "every order is filled"
    assert sum(tally.others for tally in tallies) == 0, "nothing else is reported"
    start_s = time.monotonic()
    url = venue.endpoints.redis_url
    async with accounts_link(venue.settings, url, name="bench") as link:
        progress = ProgressReader(link, shard_map(venue.settings, url).shards)

        async def is_written() -> bool:
            return not (await progress.read()).lags()["writer"]

        await eventually_async(is_written, _SETTLE_TIMEOUT_S)
        caught_up_s = time.monotonic() - start_s
        await progress.close()
        balances = {0: await read_balances(link, 0)}
        for user in await list_users(link):
            balances[user.account] = await read_balances(link, user.account)
        totals = await read_totals(link)
    check_money(balances, totals)
    check_postgres(venue, balances, orders=orders, trades=fills // 2)
    return caught_up_s


def check_money(balances: dict[int, dict[str, Balance]], totals: dict[str, int]) -> None:
    """Assert that all accounts together hold what was deposited, and nothing is reserved."""
    for asset, total in totals.items():
        owned = [of[asset] for of in balances.values() if asset in of]
        assert sum(one.available for one in owned) == total, f"{asset} is conserved"
        assert not any(one.pending or one.held for one in owned), f"no {asset} is reserved"


def check_postgres(
    venue: PrivateVenue, balances: dict[int, dict[str, Balance]], *, orders: int, trades: int
) -> None:
    """Assert that PostgreSQL has every order and trade, and the balances of Redis."""
    scales = venue.settings.scales()
    with psycopg.connect(venue.endpoints.postgres_url) as db:
        rows = db.execute("SELECT status, count(*) FROM orders GROUP BY status").fetchall()
        assert rows == [("filled", orders)], f"{orders} filled orders, found {rows}"
        [(found,)] = db.execute("SELECT count(*) FROM trades").fetchall()
        assert found == trades, f"{trades} trades, found {found}"
        for account, asset, available, held in db.execute(
            "SELECT user_id, asset, available, held FROM balances"
        ).fetchall():
            balance = balances[account].get(asset, Balance(0, 0, 0))
            unit = Decimal(10) ** scales[asset]
            assert available * unit == balance.available, (account, asset)
            assert held * unit == balance.held, (account, asset)


def describe(result: dict[str, Any]) -> list[str]:
    """Return the result as lines."""
    lines = [
        f"end to end, Python {sys.version.split()[0]}: {result['orders']:,} orders in "
        f"{result['seconds']:.1f} s, {len(SYMBOLS)} symbols, 2 shards, 2 gateways, 4 sessions",
        f"  {result['orders_per_s']:>10,.0f} orders/s",
        f"  {result['reports_per_s']:>10,.0f} reports/s, "
        f"{result['reports_per_order']:.2f} an order",
        f"  {result['writer_behind_s']:>10.1f} s until PostgreSQL had everything",
        f"  {result['fdatasync_us']:>10,.0f} us fdatasync of 4 KiB, median "
        f"(p99 {result['fdatasync_p99_us']:,.0f})",
        f"  {result['calibration_ms']:>10.1f} ms calibration loop",
        "  CPU per order, us:",
    ]
    costs = sorted(result["cpu_us_per_order"].items(), key=lambda item: -item[1])
    lines += [f"  {cost:>10.1f} {name}" for name, cost in costs]
    lines.append(f"  {sum(cost for _, cost in costs):>10.1f} together")
    return lines


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, check, print, and return the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of sending orders")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} seconds")
    parser.add_argument("--standby", action="store_true", help="with a second engine per shard")
    args = parser.parse_args(arguments)
    parent = Path("var")
    parent.mkdir(exist_ok=True)
    seconds = QUICK_SECONDS if args.quick else args.seconds
    result = uvloop.run(measure(seconds, parent, standby=args.standby))
    print("\n".join(describe(result)))
    return result


if __name__ == "__main__":
    main()
