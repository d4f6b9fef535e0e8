"""QuickFIX under remote control: `quickfix_driver.py SETTINGS.cfg`, run in its own environment.

Reads one JSON object per line on stdin and writes one per line on stdout; `clients.py` is the other
end and says what they mean. Everything about sessions, sequence numbers, resends, stores and
validation is left to QuickFIX and its settings: what is here is what any application adds, namely
the credentials in the Logon: a password, or a signature where the settings name a SigningKey.
"""

from __future__ import annotations

import json
import sys
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

import quickfix as fix
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_USERNAME, _PASSWORD, _RAW_DATA_LENGTH, _RAW_DATA = 553, 554, 95, 96
_MSG_TYPE = 35
_SIGNED = (35, 49, 56, 34, 52)
_LOCK = threading.Lock()


def say(on: str, **values: Any) -> None:
    """Write one line."""
    with _LOCK:
        print(json.dumps({"on": on, **values}), flush=True)


def pairs(message: fix.Message) -> list[list[Any]]:
    """Return the fields in order, as [tag, value]."""
    fields = [field.partition("=") for field in message.toString().split("\x01") if field]
    return [[int(tag), value] for tag, _, value in fields]


class Application(fix.Application):
    """Reports what QuickFIX calls us with; answers nothing itself."""

    def __init__(self, settings: fix.SessionSettings) -> None:
        super().__init__()
        self._settings = settings
        self.logon_fields: list[list[Any]] = []
        self.session: fix.SessionID | None = None

    def onCreate(self, session: fix.SessionID) -> None:
        # What we are given lives as long as this call only.
        names = (session.getBeginString(), session.getSenderCompID(), session.getTargetCompID())
        self.session = fix.SessionID(*(name.getString() for name in names))

    def onLogon(self, session: fix.SessionID) -> None:
        say("logon")

    def onLogout(self, session: fix.SessionID) -> None:
        say("logout")

    def toAdmin(self, message: fix.Message, session: fix.SessionID) -> None:
        if message.getHeader().getField(_MSG_TYPE) == "A":
            self._add_credentials(message, self._settings.get(session))
            for tag, value in self.logon_fields:
                message.setField(fix.StringField(tag, value))
        say("out", fields=pairs(message))

    def _add_credentials(self, message: fix.Message, mine: fix.Dictionary) -> None:
        if mine.has("SigningKey"):
            key: Any = load_pem_private_key(Path(mine.getString("SigningKey")).read_bytes(), None)
            header = message.getHeader()
            content = "\x01".join(header.getField(tag) for tag in _SIGNED)
            signature = b64encode(key.sign(content.encode())).decode()
            message.setField(fix.StringField(_RAW_DATA_LENGTH, str(len(signature))))
            message.setField(fix.StringField(_RAW_DATA, signature))
        else:
            message.setField(fix.StringField(_USERNAME, mine.getString("Username")))
            message.setField(fix.StringField(_PASSWORD, mine.getString("Password")))

    def fromAdmin(self, message: fix.Message, session: fix.SessionID) -> None:
        say("in", fields=pairs(message))

    def toApp(self, message: fix.Message, session: fix.SessionID) -> None:
        say("out", fields=pairs(message))

    def fromApp(self, message: fix.Message, session: fix.SessionID) -> None:
        say("in", fields=pairs(message))


def fill(target: Any, fields: list[Any]) -> None:
    """Set fields; a value that is a list is a repeating group: one list of fields per entry."""
    for tag, value in fields:
        if isinstance(value, list):
            for entry in value:
                group = fix.Group(tag, entry[0][0], order(entry))
                fill(group, entry)
                target.addGroup(group)
        else:
            target.setField(fix.StringField(tag, value))


def order(entry: list[Any]) -> Any:
    """Return the order of a group's fields, as QuickFIX wants it: a C array that ends with 0."""
    tags = fix.IntArray(len(entry) + 1)
    for index, (tag, _) in enumerate(entry):
        tags[index] = tag
    tags[len(entry)] = 0
    return tags


def send(application: Application, msg_type: str, fields: list[Any]) -> None:
    """Send an application message."""
    message = fix.Message()
    message.getHeader().setField(fix.MsgType(msg_type))
    fill(message, fields)
    fix.Session.sendToTarget(message, application.session)


def main() -> None:
    """Do what stdin says until it ends."""
    settings = fix.SessionSettings(sys.argv[1])
    application = Application(settings)
    store, log = fix.FileStoreFactory(settings), fix.FileLogFactory(settings)
    initiator = fix.SocketInitiator(application, store, settings, log)
    say("ready")
    for line in sys.stdin:
        command = json.loads(line)
        match command["do"]:
            case "connect":
                application.logon_fields = command["logon"]
                initiator.start()
            case "send":
                send(application, command["type"], command["fields"])
            case "disconnect":
                initiator.stop()
                say("stopped")
            case unknown:
                raise ValueError(unknown)


if __name__ == "__main__":
    main()
