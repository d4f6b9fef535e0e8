"""The client's half of a session on its own; with our acceptor and a wire that breaks:
tests/property/test_fix_sessions_back_to_back.py."""

from __future__ import annotations

import pytest

from gateway.errors import LocalFixError, RemoteFixError
from gateway.fix_message import encode_fields, frame, split_fields
from gateway.fix_time import NS_PER_SECOND
from ops.fix_initiator import RESEND_TIMEOUT_S, Identity, Initiator, Phase
from ops.fix_sent import SENT_KEPT

NOW_NS = 1_704_196_800 * NS_PER_SECOND
TIME = b"20240102-12:00:00.000"
IDENTITY = Identity("7", "SHARDEX", "al", "secret")
LOGON = b"98=0\x01108=30\x01"


def message(msg_type: bytes, number: int, body: bytes = b"", header: bytes = b"") -> bytes:
    fields = [(b"35", msg_type), (b"49", b"SHARDEX"), (b"56", b"7"), (b"34", b"%d" % number)]
    return frame(encode_fields([*fields, (b"52", TIME)]) + header + body)


def logged_on() -> Initiator:
    one = Initiator(IDENTITY)
    one.connect(reset=True, now_ns=NOW_NS)
    receive(one, message(b"A", 1, LOGON))
    one.data_to_send()
    assert one.phase is Phase.ACTIVE
    return one


def receive(one: Initiator, data: bytes, now_ns: int = NOW_NS) -> list[bytes]:
    """Return the ClOrdIDs of what is delivered."""
    return [found.fields.get(b"11", b"") for found in one.receive_data(data, now_ns=now_ns)]


def sent(one: Initiator) -> list[dict[bytes, bytes | None]]:
    data = one.data_to_send()
    parts = data.split(b"8=FIX.4.4\x01")[1:]
    return [dict(split_fields(b"8=FIX.4.4\x01" + part)) for part in parts]


def report(number: int, header: bytes = b"") -> bytes:
    return message(b"8", number, b"11=%d\x01150=0\x01" % number, header)


def test_logon_names_the_user_and_resets_when_asked() -> None:
    one = Initiator(IDENTITY)
    one.connect(reset=True, now_ns=NOW_NS)
    [logon] = sent(one)
    assert (logon[b"49"], logon[b"56"], logon[b"34"]) == (b"7", b"SHARDEX", b"1")
    assert (logon[b"553"], logon[b"554"], logon[b"141"]) == (b"al", b"secret", b"Y")
    one.disconnect("lost")
    one.connect(reset=False, now_ns=NOW_NS)
    [logon] = sent(one)
    assert b"141" not in logon
    assert logon[b"34"] == b"2"


def test_nothing_can_be_sent_before_the_logon_is_answered() -> None:
    one = Initiator(IDENTITY)
    with pytest.raises(LocalFixError, match="expected the session to be ACTIVE"):
        one.send(b"D", b"11=1\x01", now_ns=NOW_NS)
    one.connect(reset=True, now_ns=NOW_NS)
    with pytest.raises(LocalFixError, match="expected the session to be OFFLINE"):
        one.connect(reset=True, now_ns=NOW_NS)


def test_a_refused_logon_says_why() -> None:
    one = Initiator(IDENTITY)
    one.connect(reset=True, now_ns=NOW_NS)
    receive(one, message(b"5", 1, b"58=wrong password\x01"))
    assert one.phase is Phase.OFFLINE
    assert one.reason == "logged out: wrong password"


def test_anything_but_a_logon_as_the_first_message_ends_the_connection() -> None:
    one = Initiator(IDENTITY)
    one.connect(reset=True, now_ns=NOW_NS)
    with pytest.raises(RemoteFixError, match="expected a Logon"):
        receive(one, report(1))


def test_reports_behind_a_gap_wait_for_what_is_missing() -> None:
    one = logged_on()
    assert receive(one, report(4) + report(5)) == []
    [request] = sent(one)
    assert (request[b"35"], request[b"7"], request[b"16"]) == (b"2", b"2", b"0")
    dup = b"43=Y\x01122=" + TIME + b"\x01"
    fill = message(b"4", 2, b"123=Y\x0136=3\x01", dup)
    assert receive(one, fill + report(3, dup)) == [b"3", b"4", b"5"]
    assert one.next_in == 6
    assert receive(one, report(4, dup)) == []


def test_a_number_too_low_without_poss_dup_ends_the_connection() -> None:
    one = logged_on()
    receive(one, report(2))
    with pytest.raises(RemoteFixError, match="too low: expected 3, received 2"):
        receive(one, report(2))


def test_a_resend_request_gets_orders_again_and_fills_for_the_rest() -> None:
    one = logged_on()
    one.send(b"D", b"11=a\x01", now_ns=NOW_NS)
    receive(one, message(b"1", 2, b"112=ping\x01"))
    one.send(b"D", b"11=b\x01", now_ns=NOW_NS)
    heartbeat = sent(one)[1]
    assert (heartbeat[b"35"], heartbeat[b"112"]) == (b"0", b"ping")
    receive(one, message(b"2", 3, b"7=1\x0116=0\x01"))
    again = [(m[b"35"], m[b"34"], m[b"43"], m.get(b"36"), m.get(b"11")) for m in sent(one)]
    assert again == [
        (b"4", b"1", b"Y", b"2", None),
        (b"D", b"2", b"Y", None, b"a"),
        (b"4", b"3", b"Y", b"4", None),
        (b"D", b"4", b"Y", None, b"b"),
    ]


def test_what_was_refused_as_not_available_is_not_sent_again() -> None:
    one = logged_on()
    for name in (b"a", b"b", b"c"):
        one.send(b"D", b"11=%b\x01" % name, now_ns=NOW_NS)
    one.data_to_send()
    refused = b"45=%d\x01372=D\x01379=%b\x01380=%d\x01"
    receive(one, message(b"j", 2, refused % (3, b"b", 4)))
    receive(one, message(b"j", 3, refused % (4, b"c", 3)))
    # Of a message from before numbers began anew, said once more.
    receive(one, message(b"j", 4, refused % (2, b"old", 4)))
    receive(one, message(b"2", 5, b"7=2\x0116=0\x01"))
    again = [(m[b"35"], m[b"34"], m.get(b"36"), m.get(b"11")) for m in sent(one)]
    assert again == [
        (b"D", b"2", None, b"a"),
        (b"4", b"3", b"4", None),
        (b"D", b"4", None, b"c"),
    ]


def test_only_so_many_orders_are_kept_for_resends() -> None:
    one = logged_on()
    for number in range(SENT_KEPT + 5):
        one.send(b"D", b"11=%d\x01" % number, now_ns=NOW_NS)
    one.data_to_send()
    receive(one, message(b"2", 2, b"7=2\x0116=7\x01"))
    first, second = sent(one)
    assert (first[b"34"], first[b"36"]) == (b"2", b"7")
    assert (second[b"34"], second[b"11"]) == (b"7", b"5")


def test_counted_reports_move_the_number_and_must_fit_it() -> None:
    one = logged_on()
    one.note_counted(10, 11, now_ns=NOW_NS)
    assert one.next_in == 12
    with pytest.raises(RemoteFixError, match="expected 13, received 14"):
        one.note_counted(2, 14, now_ns=NOW_NS)


def test_a_logout_of_the_venue_is_answered() -> None:
    one = logged_on()
    receive(one, message(b"5", 2, b"58=good night\x01"))
    assert [m[b"35"] for m in sent(one)] == [b"5"]
    assert (one.phase, one.reason) == (Phase.OFFLINE, "logged out: good night")


def test_our_logout_waits_for_theirs() -> None:
    one = logged_on()
    one.logout(now_ns=NOW_NS)
    assert one.phase is Phase.LOGOUT_SENT
    assert receive(one, report(2)) == [b"2"]
    receive(one, message(b"5", 3))
    assert one.phase is Phase.OFFLINE
    assert [m[b"35"] for m in sent(one)] == [b"5"]


def test_silence_is_asked_about_and_then_ends_the_connection() -> None:
    one = logged_on()
    due_ns = one.next_timer_ns()
    assert due_ns == NOW_NS + 30 * NS_PER_SECOND
    one.handle_timer(now_ns=due_ns)
    assert [m[b"35"] for m in sent(one)] == [b"0"]
    one.handle_timer(now_ns=NOW_NS + 36 * NS_PER_SECOND)
    assert [m[b"35"] for m in sent(one)] == [b"1"]
    one.handle_timer(now_ns=NOW_NS + 72 * NS_PER_SECOND)
    assert (one.phase, one.reason) == (Phase.OFFLINE, "no answer to a TestRequest")
    assert one.next_timer_ns() is None


def test_a_gap_that_is_never_filled_ends_the_connection() -> None:
    one = logged_on()
    receive(one, report(5))
    later_ns = NOW_NS + RESEND_TIMEOUT_S * NS_PER_SECOND
    receive(one, report(6), later_ns)
    one.handle_timer(now_ns=later_ns)
    assert one.reason == "no answer to the ResendRequest from 2"


def test_bytes_without_fields_end_the_connection() -> None:
    one = logged_on()
    with pytest.raises(RemoteFixError, match="a field without ="):
        receive(one, message(b"8", 2, b"11=1\x01what\x01"))


def test_a_logon_by_789_sends_what_the_venue_does_not_expect_and_asks_for_nothing() -> None:
    one = logged_on()
    for name in (b"a", b"b"):
        one.send(b"D", b"11=%b\x01" % name, now_ns=NOW_NS)
    one.data_to_send()
    one.disconnect("lost")
    one.connect(reset=False, says_expected=True, more=[(b"8013", b"Y")], now_ns=NOW_NS)
    [logon] = sent(one)
    assert (logon[b"34"], logon[b"789"], logon[b"8013"]) == (b"4", b"2", b"Y")
    # The venue is at 5, and has got order a, which is number 2.
    receive(one, message(b"A", 5, LOGON + b"789=3\x01"))
    again, filled = sent(one)
    assert (again[b"34"], again[b"11"], again[b"43"]) == (b"3", b"b", b"Y")
    assert (filled[b"34"], filled[b"36"], filled[b"123"]) == (b"4", b"5", b"Y")
    assert one.has_gap
    gap = b"43=Y\x01122=%b\x01" % TIME
    resent = report(2, gap) + report(3, gap) + message(b"4", 4, b"123=Y\x0136=6\x01", gap)
    assert receive(one, resent) == [b"2", b"3"]
    assert not one.has_gap
    assert one.next_in == 6


def test_what_was_asked_for_again_and_heartbeats_come_aside() -> None:
    aside: list[bytes] = []
    one = Initiator(IDENTITY, on_aside=lambda message: aside.append(message.msg_type))
    one.connect(reset=True, now_ns=NOW_NS)
    receive(one, message(b"A", 1, LOGON) + report(2))
    one.data_to_send()
    one.ask(b"2", b"7=1\x0116=2\x01", now_ns=NOW_NS)
    one.ask(b"1", b"112=x\x01", now_ns=NOW_NS)
    assert [fields[b"35"] for fields in sent(one)] == [b"2", b"1"]
    again = b"43=Y\x01122=%b\x01" % TIME
    data = message(b"4", 1, b"123=Y\x0136=2\x01", again) + report(2, again)
    assert receive(one, data + message(b"0", 3, b"112=x\x01")) == []
    assert aside == [b"4", b"8", b"0"]
    assert one.next_in == 4


def test_what_is_about_one_connection_is_not_sent_again() -> None:
    one = logged_on()
    one.ask(b"V", b"262=a\x01", now_ns=NOW_NS)
    one.data_to_send()
    receive(one, message(b"2", 2, b"7=2\x0116=0\x01"))
    [filled] = sent(one)
    assert (filled[b"35"], filled[b"34"], filled[b"36"]) == (b"4", b"2", b"3")


def test_a_logout_behind_a_gap_leaves_a_gap() -> None:
    one = logged_on()
    one.logout(now_ns=NOW_NS)
    receive(one, message(b"5", 3))
    assert one.phase is Phase.OFFLINE
    assert one.has_gap
