"""The gateway's family of errors. Pure.

ExchangeError
├── FixError
│   ├── LocalFixError      our own code used a session against its contract
│   └── RemoteFixError     the peer broke the protocol so that the connection must end
└── TlsUnusable            the certificates that are set are none
"""

from __future__ import annotations

from engine.errors import ExchangeError


class FixError(ExchangeError):
    """Root of what a FIX session can raise."""


class LocalFixError(FixError):
    """Our caller used a session in a state that forbids it: a bug, or a race it should have seen.

    Nothing was changed: no number was taken, no byte was produced.
    """


class RemoteFixError(FixError):
    """The peer sent what cannot be answered within the session; the connection must end.

    Args:
        text: what to tell the peer in the Logout's Text (58).
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class TlsUnusable(ExchangeError):
    """Certificate, key or CA cannot be read, or do not belong together; names the files."""
