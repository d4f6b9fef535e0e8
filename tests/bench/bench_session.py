"""What a FIX session costs per message: `python -m tests.bench.bench_session`.

Measures the session core alone, in one process: framing, checks and sequencing of a NewOrderSingle
that arrives in reads of 64, and numbering and framing of an ExecutionReport whose body is there
already. Left out: sockets, the ring, the reading of business fields, the rendering of bodies,
Redis. Each figure is CPU time, taken several times; every message is checked to have come out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import process_time

from gateway.fix_framer import FixFramer
from gateway.fix_message import encode_fields, frame, split_fields
from gateway.fix_time import NS_PER_SECOND
from gateway.session import FixSession
from gateway.session_events import AppMessage, SessionRules
from gateway.validate import LAYOUT_SIGHTINGS, MessageReader

MESSAGES = 20_000
READ_MESSAGES = 64
RUNS = 7
NOW_NS = 1_704_196_800 * NS_PER_SECOND
_TIME = b"20240102-12:00:00.000"
_REPORT = (
    b"37=AAPL-USD-1234567\x0111=ord-000012345\x0117=AAPL-USD-1234567-1\x01150=F\x0139=1\x01"
    b"55=AAPL-USD\x0154=1\x0138=100\x0140=2\x0144=101.25\x0159=0\x0132=50\x0131=101.25\x01151=50"
    b"\x0114=50\x016=101.25\x0160=20240102-12:00:00.123\x01527=AAPL-USD-999\x01851=1\x01136=1\x01"
    b"137=0.01\x01138=USD\x01139=4\x01"
)


def order(number: int) -> bytes:
    """Return a NewOrderSingle with that MsgSeqNum."""
    header = [(b"35", b"D"), (b"49", b"1001"), (b"56", b"SHARDEX"), (b"34", b"%d" % number)]
    body = [(b"11", b"ord-%09d" % number), (b"55", b"AAPL-USD"), (b"54", b"1"), (b"38", b"100")]
    rest = [(b"40", b"2"), (b"44", b"101.25"), (b"59", b"0"), (b"60", _TIME), (b"21", b"1")]
    return frame(encode_fields([*header, (b"52", _TIME), *body, *rest]))


def logged_on() -> FixSession:
    """Return a session that is ready for orders from MsgSeqNum 2 on."""
    session = FixSession(SessionRules(comp_id=b"SHARDEX"), now_ns=NOW_NS)
    header = [(b"35", b"A"), (b"49", b"1001"), (b"56", b"SHARDEX"), (b"34", b"1"), (b"52", _TIME)]
    logon = frame(encode_fields([*header, (b"98", b"0"), (b"108", b"30")]))
    session.receive_data(logon, now_ns=NOW_NS)
    session.accept_logon(next_in=1, next_out=1, out_limit=10**9, now_ns=NOW_NS)
    session.events_received()
    session.data_to_send()
    return session


def reads() -> list[bytes]:
    """Return the orders as a socket would give them under load."""
    messages = [order(number) for number in range(2, MESSAGES + 2)]
    return [
        b"".join(messages[start : start + READ_MESSAGES])
        for start in range(0, MESSAGES, READ_MESSAGES)
    ]


def receive_orders() -> Callable[[], int]:
    """Frame, read, check and sequence."""
    session, chunks = logged_on(), reads()

    def run() -> int:
        count = 0
        for chunk in chunks:
            session.receive_data(chunk, now_ns=NOW_NS)
            count += sum(type(event) is AppMessage for event in session.events_received())
        return count

    return run


def frame_orders() -> Callable[[], int]:
    """Frame alone."""
    framer, chunks = FixFramer(max_message_bytes=8_192, max_garbled_bytes=0), reads()

    def run() -> int:
        count = 0
        for chunk in chunks:
            framer.receive_data(chunk)
            while framer.next_message() is not None:
                count += 1
        return count

    return run


def read_orders(*, short: bool) -> Callable[[], int]:
    """Read framed messages alone, the short way, or each as if it were the first of its layout."""
    raws = [order(number) for number in range(2, MESSAGES + 2)]
    reader = MessageReader()
    for raw in raws[:LAYOUT_SIGHTINGS]:
        reader.read(raw)

    def run_short() -> int:
        return sum(reader.read(raw).fault is None for raw in raws)

    def run_general() -> int:
        return sum(MessageReader().read(raw).fault is None for raw in raws)

    return run_short if short else run_general


def read_many_layouts(*, data: bool) -> Callable[[], int]:
    """Read framed messages alone whose layout is known: more of them than are compiled, or data."""
    optional = [b"1=1001\x01", b"15=USD\x01", b"58=x\x01", b"100=X\x01", b"526=q\x01"]
    raws = []
    for number in range(2, MESSAGES + 2):
        more = b"354=3\x01355=abc\x01"
        if not data:
            layout = number * 2_654_435_761 >> 7
            more = b"".join(field for place, field in enumerate(optional) if layout >> place & 1)
        plain = order(number)
        raws.append(frame(plain[plain.index(b"\x0135=") + 1 : -7] + more))
    reader = MessageReader()
    for raw in raws[:1_000]:
        reader.read(raw)

    def run() -> int:
        return sum(reader.read(raw).fault is None for raw in raws)

    return run


def split_orders() -> Callable[[], int]:
    """Split framed messages into fields, without any check: reading costs that much less."""
    raws = [order(number) for number in range(2, MESSAGES + 2)]

    def run() -> int:
        return sum(bool(dict(split_fields(raw))) for raw in raws)

    return run


def send_reports() -> Callable[[], int]:
    """Number and frame."""
    session = logged_on()

    def run() -> int:
        for number in range(MESSAGES):
            session.send_application(b"8", _REPORT, now_ns=NOW_NS + number * 20_000)
        return len(session.data_to_send())

    return run


def measure(make: Callable[[], Callable[[], int]]) -> tuple[float, float, float]:
    """Return the fastest, median and slowest run, in µs of CPU per message."""
    costs = []
    for _ in range(RUNS):
        run = make()
        start = process_time()
        count = run()
        costs.append((process_time() - start) / MESSAGES * 1e6)
        assert count == MESSAGES, f"{count} of {MESSAGES} messages came out"
    return min(costs), statistics.median(costs), max(costs)


CASES: dict[str, Callable[[], Callable[[], int]]] = {
    "NewOrderSingle in: frame, read, check, sequence": receive_orders,
    "  of which framing": frame_orders,
    "  of which reading, short way": lambda: read_orders(short=True),
    "  splitting into fields, no checks, instead": split_orders,
    "  reading, 32 layouts in turns instead": lambda: read_many_layouts(data=False),
    "  reading, orders with a data field instead": lambda: read_many_layouts(data=True),
    "  reading, each as if it were the first instead": lambda: read_orders(short=False),
    "ExecutionReport out: number, frame": send_reports,
}


def main() -> None:
    """Print the table."""
    print(f"{'µs of CPU per message':50} {'median':>7} {'best':>7} {'worst':>7}")
    for name, make in CASES.items():
        best, median, worst = measure(make)
        print(f"{name:50} {median:7.2f} {best:7.2f} {worst:7.2f}")


if __name__ == "__main__":
    main()
