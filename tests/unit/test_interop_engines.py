"""tests.interop: what engines say against us is found; their settings are the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.clients import Client, Message
from tests.interop.engines import Engine, JsPureFix, Login, QuickFix

QUICKFIX, JSPUREFIX = QuickFix(Path("installed")), JsPureFix(Path("installed"))


def login(dictionary: Path) -> Login:
    return Login(
        ports=(1234, 5678),
        target_comp_id="VENUE",
        sender_comp_id="42",
        username="user",
        password="word",
        dictionary=dictionary,
        purpose="trading",
        heart_bt_int_s=7,
        ca=None,
        more={"SendNextExpectedMsgSeqNum": "Y"},
    )


@pytest.mark.parametrize(
    ("engine", "text", "is_usual"),
    [
        (QUICKFIX, "20261123-00:00:00.000000000 : Received logon response", True),
        (QUICKFIX, "20261123-00:00:00.000000000 : Message 5 Rejected: Undefined tag:1003", False),
        (QUICKFIX, "20261123-00:00:00.000000000 : Received logon response, invalid", False),
        (QUICKFIX, "Traceback (most recent call last):", False),
        (JSPUREFIX, "FixSession error: unexpected state - transport failed? = Stopped", True),
        (JSPUREFIX, 'FixSession warning: rejecting with {"RefMsgType":"8"}', False),
        (JSPUREFIX, "send error: unknown field", False),
    ],
)
def test_only_what_is_usual_may_stand_in_a_log(engine: Engine, text: str, is_usual: bool) -> None:
    assert engine.may_say(text) is is_usual


def test_rejects_of_either_side_are_findings(tmp_path: Path) -> None:
    client = Client(QUICKFIX, login(tmp_path), tmp_path)
    client.take({"on": "in", "fields": [[35, "8"], [150, "0"]]})
    assert client.findings() == []
    client.take({"on": "in", "fields": [[35, "3"], [45, "7"]]})
    client.take({"on": "out", "fields": [[35, "3"], [45, "8"]]})
    client.take({"on": "out", "fields": [[35, "j"], [45, "9"]]})
    assert [text.partition(":")[0] for text in client.findings()] == [
        "the venue rejected a message",
        "the engine rejected a message",
        "the engine rejected a message",
    ]


def test_lines_of_log_files_are_findings(tmp_path: Path) -> None:
    client = Client(QUICKFIX, login(tmp_path), tmp_path)
    (tmp_path / "log").mkdir()
    log = tmp_path / "log" / "FIX.4.4-42-VENUE.event.current.log"
    log.write_text("now : Created session\nnow : Message 5 Rejected: Undefined tag:1003\n")
    assert client.findings() == ["the engine logs: now : Message 5 Rejected: Undefined tag:1003"]


@pytest.mark.parametrize("engine", [QUICKFIX, JSPUREFIX])
def test_settings_are_the_shipped_ones_with_the_session_put_in(
    engine: Engine, tmp_path: Path
) -> None:
    text = engine.write_settings(login(tmp_path / "FIX44.xml"), tmp_path).read_text()
    for value in ("1234", "42", "VENUE", "user", "word", str(tmp_path / "FIX44.xml")):
        assert value in text
    assert "change-me" not in [line.partition("=")[2] for line in text.splitlines()]


def test_entries_of_a_group_begin_with_its_first_tag() -> None:
    pairs = [[35, "W"], [268, "2"], [269, "0"], [270, "1.5"], [269, "1"], [270, "1.6"], [10, "0"]]
    first, last = Message(pairs).entries(269)
    assert first == {269: "0", 270: "1.5"} and last[270] == "1.6"
