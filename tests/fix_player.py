"""Play scripts of FIX sessions: tests/fix_scripts/*.fix and the examples in docs/fix.md.

Lines of a script, ``|`` standing for SOH:

    S name=value        what our side decides from here on: next_in, next_out, out_limit (of the
                        next accepted Logon); logon=accept|hold|silent|<Logout text>;
                        resend=now|hold (whether a ResendRequested is answered at once);
                        test_messages=yes (this is a test venue)
    i                   a client connects
    I fields            it sends a message; 8, 9, 10 are added, and 49, 56, 52 where not given
                        (``-52`` leaves one out); <now>, <now-121> and <now+5> are UTC timestamps
    I= fields           the same, but exactly these fields in this order
    G bytes             it sends these bytes as they are; <length> and <sum> are right for them,
                        <length+9> is not
    L                   it logs on with 34=1 and 108=30, and gets its answer
    E fields            we must have sent this next; without 8, 9, 10, 49, 56 and 52; ``*`` is any
    D number            this application message must have been delivered next
    A fields            we send an application message (and expect it to go out, as with E)
    accept              we accept the Logon that was held
    R                   we answer the resend that was held
    lease number        we extend the lease of sequence numbers
    logout text         we end the session
    pause, resume       we stop and go on reading the socket
    t+5s                time passes; timers are called when they ask for it
    e                   we must have closed the connection
    eof                 the client closes the connection

Whatever we send and no E expects is an error. Modes:

- whole: each message of the client in a read of its own,
- byte by byte,
- one message at a time (``max_messages=1``),
- together: neighbouring messages of the client in one read,
- split: as together, but cut into reads at random places, 50 times,
- blocked: what we send is taken from the session at the very end, as if the transport did not
  drain; only what a resend needs is stored meanwhile. What is sent must be the same.
"""

from __future__ import annotations

import random
import re
from collections import deque
from itertools import pairwise

import msgspec

from gateway.fix_dictionary import CLIENT_RULES
from gateway.fix_message import encode_fields, frame, split_fields
from gateway.fix_time import NS_PER_SECOND, UtcTimestampWriter
from gateway.session import FixSession
from gateway.session_events import (
    AdminMessage,
    AppMessage,
    Closed,
    IgnoredMessage,
    LogonRequested,
    NeedOutLimit,
    Outbound,
    RejectedMessage,
    ResendRequested,
    SessionRules,
)
from gateway.validate import fault_of

_START_NS = 1_704_196_800 * NS_PER_SECOND
_RULES = SessionRules(comp_id=b"SHARDEX", max_message_bytes=600, max_garbled_bytes=2_000)
_TIME = r"<now([+-]\d+)?>"
_LENGTH = rb"<length([+-]\d+)?>"
_SUM = rb"<sum([+-]\d+)?>"
_NOT_COMPARED = {b"49", b"56", b"52"}


def _length(data: bytes) -> int:
    """Return the BodyLength of a message whose field 9 is a placeholder."""
    after = re.split(_LENGTH + rb"\x01", data)[-1]
    return len(after.rpartition(b"10=")[0])


class Player:
    """The client, the clock, and our side's decisions."""

    def __init__(self, mode: str, seed: int = 0) -> None:
        self.mode = mode
        self.random = random.Random(seed)
        self.rules = _RULES
        self.now_ns = _START_NS
        self.session = FixSession(_RULES, now_ns=self.now_ns)
        self.decisions = {"logon": "accept", "resend": "now"}
        self.numbers = {"next_in": 1, "next_out": 1, "out_limit": 1_000}
        self.sent: deque[list[tuple[bytes, bytes | None]]] = deque()
        # In mode "blocked": what the E lines want, and of which session what was not taken is.
        self.wanted: list[list[tuple[bytes, bytes]]] = []
        self.blocked: list[FixSession] = []
        self.delivered: deque[int] = deque()
        self.store: list[tuple[int, bytes]] = []
        self.held_resend: ResendRequested | None = None
        self.framed = 0
        self.events = 0
        self.closed = False
        self.buffer = b""

    # -------------------------------------------------------- what the session gives

    def drain(self) -> None:
        """Take events and data until there are no more."""
        while events := self.session.events_received():
            for event in events:
                self.take_event(event)
        if self.mode != "blocked":
            self.take_data(self.session)

    def take_data(self, session: FixSession) -> None:
        for outbound in session.data_to_send():
            self.take_outbound(outbound)

    def take_event(self, event: object) -> None:
        if isinstance(event, Closed):
            assert not self.closed
            self.closed = True
        elif isinstance(event, ResendRequested):
            self.held_resend = event
            if self.decisions["resend"] == "now":
                self.answer_resend()
        elif not isinstance(event, NeedOutLimit):
            self.events += 1
            self.take_message_event(event)

    def take_message_event(self, event: object) -> None:
        assert isinstance(
            event, LogonRequested | AppMessage | AdminMessage | RejectedMessage | IgnoredMessage
        )
        assert event.raw.startswith(b"8=FIX")
        assert b"secret" not in event.raw
        if isinstance(event, AppMessage):
            self.delivered.append(event.msg_seq_num)
        elif isinstance(event, LogonRequested):
            self.decide_logon(event)

    def decide_logon(self, logon: LogonRequested) -> None:
        decision = self.decisions["logon"]
        numbers = self.numbers
        if logon.reset:
            self.store.clear()
            numbers = numbers | {"next_in": 1, "next_out": 1}
        if decision == "accept":
            self.session.accept_logon(**numbers, now_ns=self.now_ns)
        elif decision != "hold":
            text = None if decision == "silent" else decision
            self.session.refuse_logon(text, msg_seq_num=1, now_ns=self.now_ns)

    def take_outbound(self, outbound: Outbound) -> None:
        if outbound.stored:
            self.store.append((outbound.msg_seq_num, outbound.data))
        rule = CLIENT_RULES.get(outbound.msg_type)
        # What both sides send is right by the dictionary, however odd what it answers is.
        assert rule is None or fault_of(outbound.data, rule) is None, outbound
        fields = split_fields(outbound.data)
        self.sent.append([field for field in fields if field[0] not in _NOT_COMPARED])

    def answer_resend(self) -> None:
        wanted, self.held_resend = self.held_resend, None
        assert wanted is not None
        self.take_data(self.session)
        stored = [entry for entry in self.store if wanted.begin <= entry[0] <= wanted.end]
        self.session.resend(stored, wanted.begin, wanted.end, now_ns=self.now_ns)

    # -------------------------------------------------------- what the client does

    def feed(self, data: bytes) -> None:
        """Give bytes to the session as the mode says."""
        if self.is_joined:
            self.buffer += data
        elif self.mode == "bytes":
            for index in range(len(data)):
                self.receive(data[index : index + 1])
        else:
            self.receive(data)

    def flush(self) -> None:
        """Give what was collected, in one piece or several."""
        data, self.buffer = self.buffer, b""
        cuts = [0, len(data)]
        if self.mode == "split" and data:
            cuts += self.random.choices(range(len(data)), k=self.random.randrange(6))
        for start, end in pairwise(sorted(cuts)):
            if start < end:
                self.receive(data[start:end])

    @property
    def is_joined(self) -> bool:
        """Whether neighbouring messages of the client are given together."""
        return self.mode in ("together", "split")

    def receive(self, data: bytes) -> None:
        limit = 1 if self.mode == "one message" else None
        self.session.receive_data(data, now_ns=self.now_ns, max_messages=limit)
        self.drain()
        while self.session.has_unprocessed:
            self.session.receive_data(b"", now_ns=self.now_ns, max_messages=limit)
            self.drain()
            if self.session.out_remaining <= 0:
                break

    def message(self, text: str) -> bytes:
        fields = self.fields(text)
        given = {tag for tag, _ in fields}
        left_out = {tag[1:] for tag in given if tag.startswith(b"-")}
        header = [fields[0]]
        for tag, value in ((b"49", b"7"), (b"56", b"SHARDEX"), (b"52", self.time(0))):
            if tag not in given | left_out:
                header.append((tag, value))
        rest = [field for field in fields[1:] if not field[0].startswith(b"-")]
        return frame(encode_fields(header + rest))

    def fields(self, text: str) -> list[tuple[bytes, bytes]]:
        text = re.sub(_TIME, lambda found: self.time(int(found[1] or 0)).decode(), text)
        fields = []
        for piece in text.encode("latin-1").split(b"|"):
            tag, _, value = piece.partition(b"=")
            fields.append((tag, value))
        return fields

    def raw_bytes(self, text: str) -> bytes:
        text = re.sub(_TIME, lambda found: self.time(int(found[1] or 0)).decode(), text)
        data = text.replace("|", "\x01").encode("latin-1")
        data = re.sub(_LENGTH, lambda found: b"%d" % (_length(data) + int(found[1] or 0)), data)
        before = data.rpartition(b"10=")[0]
        return re.sub(
            _SUM, lambda found: b"%03d" % ((sum(before) + int(found[1] or 0)) % 256), data
        )

    def time(self, offset_s: int) -> bytes:
        return UtcTimestampWriter().write(self.now_ns + offset_s * NS_PER_SECOND)

    def pass_time(self, seconds: int) -> None:
        end_ns = self.now_ns + seconds * NS_PER_SECOND
        while (timer_ns := self.session.next_timer_ns()) is not None and timer_ns <= end_ns:
            assert timer_ns >= self.now_ns or not self.session.can_send
            self.now_ns = max(self.now_ns, timer_ns)
            self.session.handle_timer(now_ns=self.now_ns)
            self.drain()
            assert self.session.next_timer_ns() != timer_ns, "a timer that is due for ever"
        self.now_ns = end_ns

    # -------------------------------------------------------- the lines

    def play(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command not in ("I", "I=", "G"):
            self.flush()
        if command not in ("E", "D", "e"):
            if not self.is_joined:
                self.expect_nothing()
        if command == "L":
            self.play("I 35=A|34=1|98=0|108=30")
            self.play("E 35=A|34=1|98=0|108=30")
        elif command in ("I", "I="):
            raw = self.message(rest) if command == "I" else frame(encode_fields(self.fields(rest)))
            self.framed += not self.closed
            self.feed(raw)
        elif command == "G":
            self.framed += "8=FIX.4" in rest[:7] and "9=<length>|35" in rest and "<sum>" in rest
            self.feed(self.raw_bytes(rest))
        elif command in ("E", "D", "e"):
            self.expect(command, rest)
        else:
            self.our_side(command, rest)
            self.drain()

    def our_side(self, command: str, rest: str) -> None:
        session, now_ns = self.session, self.now_ns
        if command.startswith("t+"):
            self.pass_time(int(command[2:-1]))
        elif command == "A":
            fields = self.fields(rest)
            session.send_application(fields[0][1], encode_fields(fields[1:]), now_ns=now_ns)
        elif command == "accept":
            session.accept_logon(**self.numbers, now_ns=now_ns)
            self.drain()
            self.receive(b"")
        elif command == "R":
            self.answer_resend()
        elif command == "lease":
            session.extend_out_limit(int(rest), now_ns=now_ns)
            self.receive(b"")
        elif command == "logout":
            session.logout(rest or None, now_ns=now_ns)
        elif command == "eof":
            session.receive_eof(now_ns=now_ns)
        elif command in ("pause", "resume"):
            (session.pause_reading if command == "pause" else session.resume_reading)(now_ns)
        else:
            self.decide(command, rest)

    def decide(self, command: str, rest: str) -> None:
        if command == "i":
            self.blocked.append(self.session)
            self.session = FixSession(self.rules, now_ns=self.now_ns)
            self.framed = self.events = 0
            self.closed = False
            return
        assert command == "S", f"no such command: {command}"
        name, _, value = rest.partition("=")
        if name == "test_messages":
            self.rules = msgspec.structs.replace(_RULES, test_messages=value == "yes")
        elif name in self.decisions:
            self.decisions[name] = value
        else:
            assert name in self.numbers
            self.numbers[name] = int(value)

    def expect(self, command: str, rest: str) -> None:
        if command == "D":
            assert self.delivered.popleft() == int(rest)
        elif command == "e":
            assert not self.sent or self.mode == "blocked"
            assert self.closed
            assert self.session.close_expected()
        else:
            self.wanted.append(self.fields(rest))
            if self.mode != "blocked":
                self.compare()

    def compare(self) -> None:
        """Compare the first of what was sent with what is wanted."""
        expected = self.wanted.pop(0)
        assert self.sent, f"nothing was sent, wanted: {expected}"
        actual = self.sent.popleft()
        wild = [(tag, b"*" if (tag, b"*") in expected else value or b"") for tag, value in actual]
        assert wild == expected

    def expect_nothing(self) -> None:
        if self.mode == "blocked":
            return
        assert not self.sent, f"unexpected: {self.sent}"
        assert not self.delivered, f"unexpected: {self.delivered}"

    def finish(self) -> None:
        self.flush()
        for session in (*self.blocked, self.session):
            self.take_data(session)
        while self.mode == "blocked" and self.wanted:
            self.compare()
        assert not self.sent, f"unexpected: {self.sent}"
        assert not self.delivered, f"unexpected: {self.delivered}"
        if not self.closed:
            self.session.receive_eof(now_ns=self.now_ns)
            self.drain()
        if not self.is_joined:
            assert self.events == self.framed, "each framed message gives one event"


def run_lines(name: str, lines: list[str], player: Player) -> None:
    """Play a script to its end."""
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            try:
                player.play(line)
            except AssertionError as error:
                raise AssertionError(f"{name}:{number}: {line}: {error}") from error
    player.finish()
