"""What a session does with each stimulus in each of its states (FIX 4.4 volume 2, appendix 2-A).

One line per stimulus, one column per state. What a cell says, in this order: the MsgTypes that are
sent at once, ``+`` and the number of messages that are delivered, ``x`` where the connection is
closed; ``.`` is nothing at all. In `pending` everything waits for the decision about the Logon; the
column shows what comes of it when the Logon is accepted, the answer to the Logon left out.
"""

from __future__ import annotations

import pytest

from gateway.fix_framer import FixFramer
from gateway.fix_message import encode_fields, frame
from gateway.fix_time import NS_PER_SECOND, UtcTimestampWriter
from gateway.session import FixSession
from gateway.session_events import AppMessage, ResendRequested, SessionRules
from gateway.session_state import Connection

NOW_NS = 1_704_196_800 * NS_PER_SECOND
_STATES = "awaiting pending active resending gap logout closed".split()

# `resending`: a resend that we were asked for is being fetched. `gap`: message 2 is missing, 3 has
# come. `logout`: we have sent a Logout. The expected MsgSeqNum is 2 (awaiting, pending: 1, 2).
TABLE = """
stimulus                         awaiting  pending   active    resending gap       logout    closed
Logon                            .         5x        5x        5x        5x        .         .
Logon, reset                     .         .         .         .         .         .         .
Logon, duplicate                 .         .         .         .         +1        .         .
Logon, wrong 56                  x         5x        5x        5x        5x        .         .
Logon, 52 off                    x         5x        5x        5x        5x        .         .
Logon, BeginString               x         5x        5x        5x        5x        .         .
Logon, 98=1                      5x        5x        5x        5x        5x        .         .
Logon, 108=0                     5x        5x        5x        5x        5x        .         .
Logon, no 108                    5x        5x        5x        5x        5x        .         .
Logon, test                      5x        5x        5x        5x        5x        .         .
Heartbeat                        x         .         .         .         +1        .         .
TestRequest                      x         0         0         0         0+1       .         .
order                            x         +1        +1        +1        +2        .         .
order, too high                  x         2         2         2         .         .         .
order, too low                   x         5x        5x        5x        5x        .         .
order, too low, duplicate        x         .         .         .         .         .         .
order, duplicate                 x         +1        +1        +1        +2        .         .
order, duplicate without 122     x         3         3         3         3+1       .         .
order, 122 behind 52             x         35        35        35        35        .         .
order, possible resend           x         +1        +1        +1        +2        .         .
order, no 34                     x         5x        5x        5x        5x        .         .
order, wrong 49                  x         35        35        35        35        .         .
order, wrong 56                  x         35        35        35        35        .         .
order, BeginString               x         5         5         5         5         .         .
order, 52 off                    x         35        35        35        35        .         .
order, unknown tag               x         3         3         3         3+1       .         .
order, no 55                     x         3         3         3         3+1       .         .
order, for another firm          x         j         j         j         j+1       .         .
unknown MsgType                  x         3         3         3         3+1       .         .
MsgType not served               x         j         j         j         j+1       .         .
garbled                          .         .         .         .         .         .         .
ResendRequest                    x         4         48        .         484+1     484       .
ResendRequest, too high          x         24        248       2         484       484       .
ResendRequest, too low           x         5x        5x        5x        5x        484       .
ResendRequest, impossible        x         3         3         3         3+1       .         .
gap fill                         x         .         .         .         .         .         .
gap fill, too high               x         2         2         2         .         .         .
gap fill, too low                x         5x        5x        5x        5x        .         .
gap fill, backwards              x         3         3         3         3+1       .         .
reset to a number                x         .         .         .         .         .         .
reset, backwards                 x         3         3         3         3         .         .
Reject                           x         .         .         .         +1        .         .
Logout                           x         5x        5x        5x        5x        x         .
Logout, too high                 x         5x        5x        5x        5x        x         .
end of file                      x         x         x         x         x         x         .
"""

_ORDER = "11=a|55=A|54=1|38=1|40=2|44=1|60=<now>"
_MESSAGES = {
    "Logon": "A|98=0|108=30",
    "Logon, reset": "A|98=0|108=30|141=Y",
    "Logon, duplicate": "A|43=Y|122=<now>|98=0|108=30",
    "Logon, wrong 56": "A|56=OTHER|98=0|108=30",
    "Logon, 52 off": "A|52=20200101-00:00:00|98=0|108=30",
    "Logon, BeginString": "8=FIX.4.2|A|98=0|108=30",
    "Logon, 98=1": "A|98=1|108=30",
    "Logon, 108=0": "A|98=0|108=0",
    "Logon, no 108": "A|98=0",
    "Logon, test": "A|98=0|108=30|464=Y",
    "Heartbeat": "0",
    "TestRequest": "1|112=x",
    "order": f"D|{_ORDER}",
    "order, too high": f"D|34=5|{_ORDER}",
    "order, too low": f"D|34=1|{_ORDER}",
    "order, too low, duplicate": f"D|34=1|43=Y|122=<now>|{_ORDER}",
    "order, duplicate": f"D|43=Y|122=<now>|{_ORDER}",
    "order, duplicate without 122": f"D|43=Y|{_ORDER}",
    "order, 122 behind 52": f"D|43=Y|122=20250101-00:00:00|{_ORDER}",
    "order, possible resend": f"D|97=Y|{_ORDER}",
    "order, no 34": f"D|-34|{_ORDER}",
    "order, wrong 49": f"D|49=8|{_ORDER}",
    "order, wrong 56": f"D|56=OTHER|{_ORDER}",
    "order, BeginString": f"8=FIX.4.2|D|{_ORDER}",
    "order, 52 off": f"D|52=20200101-00:00:00|{_ORDER}",
    "order, unknown tag": f"D|{_ORDER}|5000=x",
    "order, no 55": "D|11=a|54=1|38=1|40=1|60=<now>",
    "order, for another firm": f"D|128=X|{_ORDER}",
    "unknown MsgType": "I|58=x",
    "MsgType not served": "R|131=x",
    "ResendRequest": "2|7=1|16=0",
    "ResendRequest, too high": "2|34=5|7=1|16=0",
    "ResendRequest, too low": "2|34=1|7=1|16=0",
    "ResendRequest, impossible": "2|7=9|16=0",
    "gap fill": "4|43=Y|122=<now>|123=Y|36=4",
    "gap fill, too high": "4|34=5|123=Y|36=9",
    "gap fill, too low": "4|34=1|123=Y|36=9",
    "gap fill, backwards": "4|123=Y|36=2",
    "reset to a number": "4|36=9",
    "reset, backwards": "4|36=1",
    "Reject": "3|45=1",
    "Logout": "5",
    "Logout, too high": "5|34=5",
}


def message(text: str, number: int) -> bytes:
    """Return a message with the header fields that the text does not give, in order."""
    time = UtcTimestampWriter().write(NOW_NS)
    begin, pieces = b"FIX.4.4", text.replace("<now>", time.decode()).encode().split(b"|")
    if pieces[0].startswith(b"8="):
        begin = pieces.pop(0)[2:]
    header = {b"35": pieces.pop(0), b"49": b"7", b"56": b"V", b"34": b"%d" % number, b"52": time}
    body = []
    for piece in pieces:
        tag, _, value = piece.partition(b"=")
        if tag.startswith(b"-"):
            del header[tag[1:]]
        elif tag in header:
            header[tag] = value
        else:
            body.append((tag, value))
    raw = frame(encode_fields([*header.items(), *body]))
    if begin == b"FIX.4.4":
        return raw
    changed = raw[:-7].replace(b"8=FIX.4.4", b"8=" + begin)
    return changed + b"10=%03d\x01" % (sum(changed) % 256)


class Player:
    """A session in one of the states, and what came out of it since."""

    def __init__(self, state: str) -> None:
        self.session = FixSession(SessionRules(comp_id=b"V"), now_ns=NOW_NS)
        self.stored: list[tuple[int, bytes]] = []
        self.holds_resend = state == "resending"
        self.state = state
        if state == "awaiting":
            return
        self.feed(message("A|98=0|108=30", 1))
        if state == "pending":
            return
        self.accept()
        self.session.send_application(b"8", b"37=one\x01", now_ns=NOW_NS)
        self.take()
        if state == "resending":
            # It takes number 2, so what comes next is number 3.
            self.feed(message("2|7=2|16=0", 2))
            self.take()
            self.holds_resend = False
        elif state == "gap":
            self.feed(message(f"D|{_ORDER}", 3))
        elif state == "logout":
            self.session.logout("bye", now_ns=NOW_NS)
        elif state == "closed":
            self.session.receive_eof(now_ns=NOW_NS)
        self.take()

    def accept(self) -> None:
        self.session.accept_logon(next_in=1, next_out=1, out_limit=1_000, now_ns=NOW_NS)

    def feed(self, data: bytes) -> None:
        self.session.receive_data(data, now_ns=NOW_NS)

    @property
    def expected(self) -> int:
        return {"awaiting": 1, "resending": 3}.get(self.state, 2)

    def take(self) -> str:
        """Take all that came out, in the words of the table."""
        delivered = 0
        for event in self.session.events_received():
            delivered += isinstance(event, AppMessage)
            if isinstance(event, ResendRequested) and not self.holds_resend:
                self.session.resend(self.stored, event.begin, event.end, now_ns=NOW_NS)
        sent = ""
        for outbound in self.session.data_to_send():
            if outbound.stored:
                self.stored.append((outbound.msg_seq_num, outbound.data))
            sent += outbound.msg_type.decode()
        return sent + (f"+{delivered}" if delivered else "")


def play(stimulus: str, state: str) -> str:
    player = Player(state)
    session = player.session
    if stimulus == "end of file":
        session.receive_eof(now_ns=NOW_NS)
    elif stimulus == "garbled":
        whole = message("1|112=x", player.expected)
        player.feed(whole[:-4] + b"000\x01" if whole[-4:-1] != b"000" else whole[:-4] + b"001\x01")
    else:
        player.feed(message(_MESSAGES[stimulus], player.expected))
    if state == "pending" and session.awaits_decision:
        player.accept()
        player.feed(b"")
    result = player.take()
    if state == "pending":
        result = result.removeprefix("A")
    was_open = state != "closed"
    return (result + ("x" if was_open and session.state is Connection.CLOSED else "")) or "."


def rows() -> dict[str, dict[str, str]]:
    found = {}
    for line in TABLE.strip().splitlines()[1:]:
        columns = line[33:].split()
        found[line[:33].strip()] = dict(zip(_STATES, columns, strict=True))
    return found


@pytest.mark.parametrize("stimulus", rows())
def test_stimulus_in_every_state(stimulus: str) -> None:
    assert {state: play(stimulus, state) for state in _STATES} == rows()[stimulus]


def test_the_table_names_every_message() -> None:
    assert set(rows()) == {*_MESSAGES, "garbled", "end of file"}


def test_messages_of_the_table_are_framed() -> None:
    for text in _MESSAGES.values():
        framer = FixFramer(max_message_bytes=1_000, max_garbled_bytes=0)
        framer.receive_data(message(text, 2))
        assert framer.next_message() is not None
