"""Our acceptor against our initiator over a wire that cuts, delays and breaks.

Whatever happens in between, in the end each order is delivered once, in order, and each report too.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fix_time import NS_PER_SECOND
from gateway.session import FixSession
from gateway.session_events import AppMessage, LogonRequested, ResendRequested, SessionRules
from ops.fix_initiator import Identity, Initiator, Phase

_RULES = SessionRules(comp_id=b"SHARDEX")
_LEASE = 1_000
_ORDER = b"11=%d\x0155=X-Y\x0154=1\x0138=1\x0140=2\x0144=1\x0160=20240102-12:00:00\x01"


class Venue:
    """The acceptor's shell: what it stores outlives a connection, and a crash."""

    def __init__(self) -> None:
        self.session: FixSession | None = None
        self.opened = False
        self.next_in = 1
        self.next_out = 1
        self.out_limit = 0
        self.stored: list[tuple[int, bytes]] = []
        self.orders: list[int] = []
        self.last_order_num = 0

    def drain(self, now_ns: int) -> bytes:
        session = self.session
        assert session is not None
        while events := session.events_received():
            for event in events:
                if isinstance(event, LogonRequested):
                    self.opened = True
                    self.out_limit = self.next_out + _LEASE - 1
                    session.accept_logon(
                        next_in=self.next_in,
                        next_out=self.next_out,
                        out_limit=self.out_limit,
                        now_ns=now_ns,
                    )
                    session.receive_data(b"", now_ns=now_ns)
                elif isinstance(event, ResendRequested):
                    found = [one for one in self.stored if event.begin <= one[0] <= event.end]
                    session.resend(found, event.begin, event.end, now_ns=now_ns)
                elif isinstance(event, AppMessage):
                    self.orders.append(int(event.message.fields[b"11"]))
                    self.last_order_num = event.msg_seq_num
        out = session.data_to_send()
        self.stored += [(one.msg_seq_num, one.data) for one in out if one.stored]
        return b"".join([one.data for one in out])

    def lose(self, *, crash: bool, now_ns: int) -> None:
        """Lose the connection, and with a crash everything that was not stored."""
        assert self.session is not None
        self.session.receive_eof(now_ns=now_ns)
        if self.opened:
            self.next_in, self.next_out = self.session.next_in, self.session.next_out
            if crash:
                self.next_in, self.next_out = self.last_order_num + 1, self.out_limit + 1
        self.session = None
        self.opened = False


class World:
    """Both sides and the bytes between them."""

    def __init__(self) -> None:
        self.now_ns = 1_704_196_800 * NS_PER_SECOND
        self.client = Initiator(Identity("7", "SHARDEX", "7", "secret"))
        self.venue = Venue()
        self.to_venue = b""
        self.to_client = b""
        self.reports: list[int] = []
        self.orders_sent = 0
        self.reports_sent = 0

    def connect(self) -> None:
        if self.client.phase is Phase.OFFLINE:
            self.to_venue = self.to_client = b""
            self.venue.session = FixSession(_RULES, now_ns=self.now_ns)
            self.client.connect(reset=False, now_ns=self.now_ns)
            self.collect()

    def collect(self) -> None:
        self.to_venue += self.client.data_to_send()
        if self.venue.session is not None:
            self.to_client += self.venue.drain(self.now_ns)

    def cut(self, *, crash: bool) -> None:
        if self.client.phase is not Phase.OFFLINE:
            self.client.disconnect("cut")
            self.venue.lose(crash=crash, now_ns=self.now_ns)

    def order(self) -> None:
        if self.client.phase is Phase.ACTIVE:
            self.orders_sent += 1
            self.client.send(b"D", _ORDER % self.orders_sent, now_ns=self.now_ns)
            self.collect()

    def report(self) -> None:
        session = self.venue.session
        if session is not None and session.can_send and session.out_remaining:
            self.reports_sent += 1
            session.send_application(b"8", b"37=%d\x01" % self.reports_sent, now_ns=self.now_ns)
            self.collect()

    def carry(self, count: int) -> None:
        """Carry bytes both ways."""
        if self.client.phase is Phase.OFFLINE:
            return
        assert self.venue.session is not None
        data, self.to_venue = self.to_venue[:count], self.to_venue[count:]
        self.venue.session.receive_data(data, now_ns=self.now_ns)
        data, self.to_client = self.to_client[:count], self.to_client[count:]
        for message in self.client.receive_data(data, now_ns=self.now_ns):
            assert message.msg_type == b"8", message
            self.reports.append(int(message.fields[b"37"]))
        self.collect()

    def step(self, action: str, number: int) -> None:
        self.now_ns += NS_PER_SECOND // 100
        if action in ("cut", "crash"):
            self.cut(crash=action == "crash")
        elif action == "carry":
            self.carry(number)
        else:
            {"connect": self.connect, "order": self.order, "report": self.report}[action]()

    def settle(self) -> None:
        """Connect once more and carry everything."""
        self.connect()
        for _ in range(50):
            self.carry(1 << 20)
        assert not self.to_venue
        assert not self.to_client


_ACTIONS = st.tuples(
    st.sampled_from(
        [
            "connect",
            "connect",
            "order",
            "order",
            "report",
            "carry",
            "carry",
            "carry",
            "cut",
            "crash",
        ]
    ),
    # About one message, so that some come and the next do not yet; or many at once.
    st.one_of(st.integers(60, 110), st.integers(1, 60), st.integers(500, 5_000)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_ACTIONS, min_size=40, max_size=80))
def test_every_order_and_report_arrives_once_and_in_order(actions: list[tuple[str, int]]) -> None:
    world = World()
    for action, number in actions:
        world.step(action, number)
    world.settle()
    assert world.client.phase is Phase.ACTIVE
    assert world.venue.orders == list(range(1, world.orders_sent + 1))
    assert world.reports == list(range(1, world.reports_sent + 1))
