"""What an order costs the engine, without Redis and journal: `python -m tests.bench.bench_shard`.

Half of the orders cross and fill one resting order each. Measured per order, in CPU time, as the
engine works: decoding the command, applying it (checks, matching, money, events), and encoding what
is committed. The collector is as in the engine, on. Medians of several runs.
"""

from __future__ import annotations

import random
import statistics
import sys
from time import process_time

from engine.commands import NewOrder, decode_command, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import OrderFilled
from engine.settlement import encode_settlement
from engine.shard import Shard
from tests.matching_world import SYMBOL, World

ORDERS = 20_000
BATCH = 128
RUNS = 7
ACCOUNTS = 100


def commands(count: int, seed: int) -> list[bytes]:
    """Return a symbol's definition, and orders of which every second one takes the one before."""
    source = random.Random(seed)
    world = World()
    made = [world.commands[0]]
    for number in range(0, count, 2):
        side = source.choice((Side.BUY, Side.SELL))
        maker, taker = source.sample(range(1, ACCOUNTS + 1), 2)
        price, qty = source.randint(490, 510), source.randint(1, 50)
        taking = Side.SELL if side is Side.BUY else Side.BUY
        for place, account, of in ((number, maker, side), (number + 1, taker, taking)):
            order = NewOrder(
                account=account,
                session=account,
                msg_seq_num=place,
                cl_ord_id=f"order-{place}",
                side=of,
                ord_type=OrdType.LIMIT,
                time_in_force=TimeInForce.GTC,
                post_only=False,
                stp=SelfTradePrevention.CANCEL_NEWEST,
                price_ticks=price,
                qty_lots=qty,
                rules_version=1,
                reserved=world.rules.hold_of(of, price, qty),
            )
            made.append(encode_command(order))
    return made


def run(stream: list[bytes]) -> tuple[float, float, float]:
    """Return µs per order for decoding, applying and encoding."""
    shard = Shard()
    spent = [0.0, 0.0, 0.0]
    reports = 0
    fills = 0
    for start in range(0, len(stream), BATCH):
        times = [process_time()]
        decoded = [decode_command(data) for data in stream[start : start + BATCH]]
        times.append(process_time())
        applied = [
            shard.apply(SYMBOL, seq, seq, command)
            for seq, command in enumerate(decoded, start=start + 1)
        ]
        times.append(process_time())
        settlements = [encode_settlement(one) for one in applied]
        reports += sum([len(settlement.reports()) for settlement in settlements])
        times.append(process_time())
        for part in range(3):
            spent[part] += times[part + 1] - times[part]
        assert all(settlement.event for settlement in settlements)
        fills += sum(isinstance(e, OrderFilled) for one in applied for e in one.output.events)
    assert fills == len(stream) - 1, "every second order fills the one before it"
    assert reports == len(stream) - 1 + fills // 2, "each account concerned is told"
    shard.check_invariants()
    decode, apply, encode = (1e6 * seconds / len(stream) for seconds in spent)
    return decode, apply, encode


def main() -> dict[str, float]:
    """Measure, print and return µs per order."""
    stream = commands(ORDERS, seed=1)
    runs = [run(stream) for _ in range(RUNS)]
    decode, apply, encode = (statistics.median(column) for column in zip(*runs, strict=True))
    print(
        f"engine per order, half crossing, Python {sys.version.split()[0]}: decode {decode:.2f} µs,"
        f" apply {apply:.2f} µs, encode {encode:.2f} µs, together {decode + apply + encode:.2f} µs"
    )
    return {"decode_us": decode, "apply_us": apply, "encode_us": encode}


if __name__ == "__main__":
    main()
