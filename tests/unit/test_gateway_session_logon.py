"""Judging Logons: who gets no answer, who gets a Logout, and what a good one asks for."""

from __future__ import annotations

import pytest

from gateway.errors import LocalFixError
from gateway.fix_message import FixMessage, encode_fields, frame
from gateway.session_events import LogonRequested, SessionRules
from gateway.session_logon import (
    LogonRefusal,
    account_of,
    check_opening,
    judge_first,
    judge_in_session,
    opening_fault,
)
from gateway.validate import MessageReader

RULES = SessionRules(comp_id=b"SHARDEX", heart_bt_int_min_s=5, heart_bt_int_max_s=60)
GOOD = {
    b"35": b"A",
    b"49": b"7",
    b"56": b"SHARDEX",
    b"34": b"3",
    b"52": b"20260102-03:04:05",
    b"98": b"0",
    b"108": b"30",
    b"553": b"user",
    b"554": b"secret",
}


def logon(**changes: bytes) -> FixMessage:
    fields = GOOD | {tag.removeprefix("t").encode(): value for tag, value in changes.items()}
    return MessageReader().read(frame(encode_fields(list(fields.items()))))


def test_good_logon_says_what_it_asks_for_without_its_secrets() -> None:
    request = judge_first(logon(t141=b"Y", t789=b"9"), RULES, on_time=True)
    assert isinstance(request, LogonRequested)
    assert b"secret" not in request.raw and request.password == b"secret"
    assert (request.sender_comp_id, request.username, request.heart_bt_int_s) == (7, "user", 30)
    assert (request.reset, request.msg_seq_num, request.next_expected_seq_num) == (True, 3, 9)


@pytest.mark.parametrize(
    "changes", [{"t56": b"OTHER"}, {"t49": b"07"}, {"t49": b"bob"}, {"t35": b"0"}]
)
def test_strangers_get_no_answer(changes: dict[str, bytes]) -> None:
    refusal = judge_first(logon(**changes), RULES, on_time=True)
    assert isinstance(refusal, LogonRefusal) and refusal.text is None


def test_logon_out_of_time_gets_no_answer() -> None:
    refusal = judge_first(logon(), RULES, on_time=False)
    assert isinstance(refusal, LogonRefusal) and refusal.text is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"t98": b"1"}, "EncryptMethod must be 0 (none)"),
        ({"t108": b"0"}, "HeartBtInt must be from 5 to 60, received 0"),
        ({"t108": b"61"}, "HeartBtInt must be from 5 to 60, received 61"),
        ({"t108": b"x"}, "Incorrect data format for value (tag 108)"),
    ],
)
def test_mistakes_get_a_logout(changes: dict[str, bytes], text: str) -> None:
    refusal = judge_first(logon(**changes), RULES, on_time=True)
    assert isinstance(refusal, LogonRefusal) and refusal.text == text


def test_logon_inside_a_session_must_be_a_reset_of_it() -> None:
    def judge(peer: bytes, **changes: bytes) -> LogonRequested | LogonRefusal:
        return judge_in_session(logon(**changes), RULES, peer=peer, on_time=True)

    reset = judge(b"7", t141=b"Y")
    assert isinstance(reset, LogonRequested) and reset.in_session
    for refusal, text in (
        (judge(b"7"), "Already logged on"),
        (judge(b"8", t141=b"Y"), "CompID problem"),
    ):
        assert isinstance(refusal, LogonRefusal) and refusal.text == text


def test_numbers_that_contradict_the_logon() -> None:
    request = judge_first(logon(t789=b"9"), RULES, on_time=True)
    assert isinstance(request, LogonRequested)
    assert opening_fault(request, 3, 9) is None
    too_low = opening_fault(request, 4, 9)
    assert too_low == "MsgSeqNum too low, expecting 4 but received 3"
    assert (opening_fault(request, 3, 8) or "").startswith("NextExpectedMsgSeqNum out of range")


@pytest.mark.parametrize("numbers", [(1, 0, 10), (1, 11, 10), (0, 1, 10)])
def test_our_own_numbers_must_be_possible(numbers: tuple[int, int, int]) -> None:
    request = judge_first(logon(), RULES, on_time=True)
    assert isinstance(request, LogonRequested)
    next_in, next_out, out_limit = numbers
    with pytest.raises(LocalFixError):
        check_opening(request, next_in=next_in, next_out=next_out, out_limit=out_limit)


@pytest.mark.parametrize(
    ("text", "account"), [(b"1", 1), (b"0", None), (b"-1", None), (b"9" * 30, None), (b"", None)]
)
def test_comp_id_is_a_positive_integer_in_plain_form(text: bytes, account: int | None) -> None:
    assert account_of(text) == account
