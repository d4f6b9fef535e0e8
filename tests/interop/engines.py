"""What differs between the engines: programs, settings files, and what their logs may say.

The settings are those of docs/clients/, with the venue's ports and the user's name put in: what is
shipped is what is tried. An engine's log is judged by a list of what is usual; all else is a
finding, so that a complaint in words that nobody thought of is found as well.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_LOGON_NAMES = {141: "ResetSeqNumFlag", 789: "NextExpectedMsgSeqNum"}
_FOLDER = Path(__file__).parent
_SHIPPED = _FOLDER.parent.parent / "docs" / "clients"


@dataclass(frozen=True)
class Login:
    """Where, and as whom.

    Args:
        ports: of gateways, or of proxies before them, on the loopback address.
        dictionary: the engine's, or ours; an absolute path.
        purpose: which of the shipped settings: trading, market-data or drop-copy.
        heart_bt_int_s: HeartBtInt (108).
        ca: what signed the gateways' certificates; None: plain text, or TLS is the proxy's.
        more: further settings of the session, as the engine spells them.
    """

    ports: tuple[int, ...]
    target_comp_id: str
    sender_comp_id: str
    username: str
    password: str
    dictionary: Path
    purpose: str
    heart_bt_int_s: int
    ca: Path | None
    more: Mapping[str, str]


class Engine(Protocol):
    """A FIX engine."""

    name: str
    takes_two_ports: bool
    """Whether it goes on to another gateway by itself."""
    speaks_tls: bool
    """Whether it does so itself; otherwise its proxy does, as stunnel would."""
    resends_orders: bool
    """Whether it answers a ResendRequest with its messages; otherwise it fills the gap."""

    def dictionary(self) -> Path:
        """Return the FIX 4.4 dictionary that it comes with."""

    def program(self, settings: Path) -> list[str]:
        """Return the command line of the driver."""

    def environment(self) -> dict[str, str]:
        """Return the environment of the driver."""

    def write_settings(self, login: Login, directory: Path) -> Path:
        """Write the settings of one session and return their path."""

    def logon_fields(self, fields: dict[int, str]) -> Any:
        """Return fields for the Logon as the driver takes them."""

    def may_say(self, text: str) -> bool:
        """Say whether a line of its log is no complaint about us."""

    def logged(self, directory: Path) -> list[str]:
        """Return the lines of its log files."""


class QuickFix:
    """QuickFIX with its Python binding, in an environment of its own.

    Args:
        environment: the virtual environment.
    """

    name = "quickfix"
    takes_two_ports = True
    # From PyPI it is built without OpenSSL.
    speaks_tls = False
    resends_orders = True

    _USUAL = re.compile(
        r"Created session|Connecting to .*|Connection succeeded|Connection failed:? .*"
        r"|Initiated logon request|Received logon response|Initiated logout request"
        r"|Received logout response|Received logout request|Sending logout response|Disconnecting"
        r"|Sent ResendRequest .*|Received ResendRequest .*|(?:Resending|Resent) Message: .*"
        r"|Sent SequenceReset .*|Received SequenceReset .*|Processing QUEUED message: .*"
        r"|MsgSeqNum too high, expecting \d+ but received \d+.*|Already sent ResendRequest .*"
        r"|ResendRequest for messages .*|Logon contains ResetSeqNumFlag=Y.*"
        r"|Expecting retransmits FROM: \d+ TO: \d+|Socket Error: .*|Dropped Connection"
        r"|Sent test request .*"
    )

    def __init__(self, environment: Path) -> None:
        self._environment = environment.absolute()

    def dictionary(self) -> Path:
        """Return the dictionary that is installed with it."""
        return self._environment / "share" / "quickfix" / "FIX44.xml"

    def program(self, settings: Path) -> list[str]:
        """Return the command line of the driver."""
        python = self._environment / "bin" / "python"
        return [str(python), "-u", str(_FOLDER / "quickfix_driver.py"), str(settings)]

    def environment(self) -> dict[str, str]:
        """Return our own."""
        return dict(os.environ)

    def write_settings(self, login: Login, directory: Path) -> Path:
        """Write docs/clients/quickfix-*.cfg for this session."""
        values = {
            "FileStorePath": str(directory / "store"),
            "FileLogPath": str(directory / "log"),
            "DataDictionary": str(login.dictionary),
            "HeartBtInt": str(login.heart_bt_int_s),
            "SenderCompID": login.sender_comp_id,
            "TargetCompID": login.target_comp_id,
            "Username": login.username,
            "Password": login.password,
            "SocketConnectPort": str(login.ports[0]),
            "SocketConnectPort1": str(login.ports[-1]),
        }
        text = (_SHIPPED / f"quickfix-{login.purpose}.cfg").read_text()
        for key, value in values.items():
            text, count = re.subn(rf"(?m)^{key}=.*$", f"{key}={value}", text)
            assert count == 1, f"Invariant: the shipped settings have {key} once"
        path = directory / "session.cfg"
        path.write_text("\n".join([text, *(f"{key}={value}" for key, value in login.more.items())]))
        return path

    def logon_fields(self, fields: dict[int, str]) -> list[tuple[int, str]]:
        """Return tags and values."""
        return list(fields.items())

    def may_say(self, text: str) -> bool:
        """Compare with the usual lines, behind the time that they begin with."""
        return self._USUAL.fullmatch(text.partition(" : ")[2] or text) is not None

    def logged(self, directory: Path) -> list[str]:
        """Return its event logs."""
        files = sorted((directory / "log").glob("*.event.current.log"))
        return [line for file in files for line in file.read_text().splitlines() if line]


class JsPureFix:
    """jspurefix, on node.

    Args:
        folder: where npm has installed it.
    """

    name = "jspurefix"
    takes_two_ports = False
    speaks_tls = True
    resends_orders = False

    _USUAL = re.compile(
        r".*transport failed\?.*|.*: unexpected state.*"
        r"|.*received seq \d+, but last known seq is \d+. Sending resend request.*"
        r"|.*ECONNREFUSED.*|.*ECONNRESET.*"
    )

    def __init__(self, folder: Path) -> None:
        self._modules = folder.absolute() / "node_modules"

    def dictionary(self) -> Path:
        """Return its copy of QuickFIX's."""
        return self._modules / "jspurefix" / "data" / "FIX44.xml"

    def program(self, settings: Path) -> list[str]:
        """Return the command line of the driver."""
        return ["node", str(_FOLDER / "jspurefix_driver.js"), str(settings)]

    def environment(self) -> dict[str, str]:
        """Return our own, and where its modules are."""
        return {**os.environ, "NODE_PATH": str(self._modules)}

    def write_settings(self, login: Login, directory: Path) -> Path:
        """Write docs/clients/jspurefix-trading.json for this session."""
        settings = json.loads((_SHIPPED / "jspurefix-trading.json").read_text())
        tcp: dict[str, Any] = {"host": "127.0.0.1", "port": login.ports[0]}
        if login.ca is not None:
            tcp["tls"] = {"nodeTlsConnectionOptions": {"ca": login.ca.read_text()}}
        settings["application"]["tcp"] = tcp
        settings["application"]["dictionary"] = str(login.dictionary)
        settings |= {
            "store": {"type": "file", "directory": str(directory / "store")},
            "HeartBtInt": login.heart_bt_int_s,
            "SenderCompId": login.sender_comp_id,
            "TargetCompID": login.target_comp_id,
            "Username": login.username,
            "Password": login.password,
        }
        path = directory / "session.json"
        path.write_text(json.dumps(settings, indent=2))
        return path

    def logon_fields(self, fields: dict[int, str]) -> dict[str, str | bool]:
        """Return names and values; a flag is a truth value."""
        return {_LOGON_NAMES[tag]: value == "Y" or value for tag, value in fields.items()}

    def may_say(self, text: str) -> bool:
        """Compare with the usual warnings: of cuts and gaps, which scenarios make."""
        return self._USUAL.fullmatch(text) is not None

    def logged(self, directory: Path) -> list[str]:
        """Return nothing: it has no files of its own, the driver passes its log on."""
        return []
