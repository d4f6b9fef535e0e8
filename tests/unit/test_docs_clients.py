"""docs/clients: the shipped settings parse, and name the venue as it is by default."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from ops.demo_users import TRADERS, VISITORS

DOCS = Path(__file__).parent.parent.parent / "docs"
SHIPPED = DOCS / "clients"
DICTIONARY = "FIX44-shardex.xml"
DEFAULTS = GatewaySettings()
VISITOR_IDS = {str(TRADERS + number) for number in range(1, VISITORS + 1)}

QUICKFIX = ["quickfix-trading.cfg", "quickfix-market-data.cfg", "quickfix-drop-copy.cfg"]


def read_quickfix(name: str) -> dict[str, dict[str, str]]:
    """Return sections and settings, read as QuickFIX does: # begins a comment line."""
    sections: dict[str, dict[str, str]] = {}
    for line in (SHIPPED / name).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if match := re.fullmatch(r"\[(DEFAULT|SESSION)\]", line):
            assert match[1] not in sections, "one session per file"
            section = sections.setdefault(match[1], {})
            continue
        key, equals, value = line.partition("=")
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", key) and equals and value, line
        assert key not in section, f"{key} stands there twice"
        section[key] = value
    return sections


@pytest.mark.parametrize("name", QUICKFIX)
def test_quickfix_settings_name_the_venue(name: str) -> None:
    sections = read_quickfix(name)
    default, session = sections["DEFAULT"], sections["SESSION"]
    assert default["ConnectionType"] == "initiator"
    assert session["BeginString"] == "FIX.4.4"
    assert session["TargetCompID"] == DEFAULTS.comp_id
    assert session["SenderCompID"] == session["Username"]
    assert session["SenderCompID"] in VISITOR_IDS
    ports = [session[key] for key in session if key.startswith("SocketConnectPort")]
    assert ports == [str(DEFAULTS.port + number) for number in range(DEFAULTS.count)]
    heart_bt_int_s = int(default["HeartBtInt"])
    assert DEFAULTS.heart_bt_int_min_s <= heart_bt_int_s <= DEFAULTS.heart_bt_int_max_s
    assert int(default["MaxLatency"]) == DEFAULTS.sending_time_tolerance_s


@pytest.mark.parametrize("name", QUICKFIX)
def test_quickfix_validates_with_our_dictionary(name: str) -> None:
    default = read_quickfix(name)["DEFAULT"]
    assert default["UseDataDictionary"] == "Y"
    assert default["DataDictionary"] == f"docs/{DICTIONARY}"
    assert (DOCS / DICTIONARY).exists()
    assert [key for key in default if key.startswith("Validate") and default[key] != "Y"] == []


def test_only_market_data_may_begin_anew_at_each_logon() -> None:
    resets = {name: read_quickfix(name)["DEFAULT"]["ResetOnLogon"] for name in QUICKFIX}
    stores = {name: read_quickfix(name)["DEFAULT"]["PersistMessages"] for name in QUICKFIX}
    assert resets == dict(zip(QUICKFIX, "NYN", strict=True))
    assert stores == dict(zip(QUICKFIX, "YNY", strict=True))


def test_sessions_of_the_files_are_different_users() -> None:
    users = [read_quickfix(name)["SESSION"]["SenderCompID"] for name in QUICKFIX]
    assert len(set(users)) == len(users)


def test_jspurefix_settings_name_the_venue() -> None:
    settings = json.loads((SHIPPED / "jspurefix-trading.json").read_text())
    application = settings["application"]
    assert application["type"] == "initiator" and application["resilient"]
    assert application["tcp"] == {"host": "127.0.0.1", "port": DEFAULTS.port}
    assert Path(application["dictionary"]).name == DICTIONARY
    assert settings["store"]["type"] == "file" and settings["ResetSeqNumFlag"] is False
    assert settings["TargetCompID"] == DEFAULTS.comp_id
    assert settings["SenderCompId"] == settings["Username"]
    assert settings["SenderCompId"] in VISITOR_IDS
    heart_bt_int_s = settings["HeartBtInt"]
    assert DEFAULTS.heart_bt_int_min_s <= heart_bt_int_s <= DEFAULTS.heart_bt_int_max_s


def test_every_file_stands_in_the_list() -> None:
    listed = (SHIPPED / "README.md").read_text()
    missing = [file.name for file in SHIPPED.iterdir() if f"`{file.name}`" not in listed]
    assert missing == ["README.md"]
