"""Errors of operation: settings, commands, data directories, embedded servers, processes. Pure.

OpsError
├── SettingsError            the configuration is missing or wrong; names each key and the reason
├── CommandFailed            what an operator asked for cannot be done; says why
├── WrongUsage               a command's arguments do not make sense; says what was expected
├── DataDirectoryLocked      another run holds the directory
├── DataDirectoryMismatch    the directory is not of this version, or not ours to use
├── EngineDiffered           an engine whose outputs were not the published ones stays stopped
├── EmbeddedServerFailed     a private server is missing, did not start or stopped by itself
├── FixClientFailed          a client of ours cannot log on, or lost its session
├── FlowFileError            a file of recorded flow is not what it should be; names the line
└── ProcessFailed            a process of the exchange did not start
"""

from __future__ import annotations

from pathlib import Path

from engine.errors import ExchangeError


class OpsError(ExchangeError):
    """Root of this family."""


class SettingsError(OpsError):
    """The configuration cannot be used; one line per fault, each with its key and the reason."""


class CommandFailed(OpsError):
    """A command cannot do what was asked; the message is the one line that the operator gets."""


class WrongUsage(OpsError):
    """The arguments of a command do not fit; its exit code is 2, as where argparse finds out."""


class DataDirectoryLocked(OpsError):
    """Another run, or a server that it left behind, holds the data directory.

    Args:
        path: the data directory.
        holder_pid: the process that took the lock; None when it had not yet said so.
        holder_alive: False when that process is gone and only its servers remain.
    """

    def __init__(self, path: Path, *, holder_pid: int | None, holder_alive: bool) -> None:
        holder = f"process {holder_pid}" if holder_pid is not None else "another process"
        if not holder_alive:
            holder = f"a server that {holder} left behind and that is still shutting down"
        super().__init__(f"{path} is in use by {holder}")
        self.path = path
        self.holder_pid = holder_pid


class DataDirectoryMismatch(OpsError):
    """The data directory was made by other versions, or cannot be used by this account."""


class EngineDiffered(OpsError):
    """An engine made another output than was published; it does not start until somebody looked.

    Args:
        mark: the file to remove then.
        difference: what it has found, with both versions.
    """

    def __init__(self, mark: Path, difference: str) -> None:
        super().__init__(
            f"this engine differed and may not lead: replay the shard's journals to see which is"
            f" right, then remove {mark}; it was: {difference}"
        )
        self.mark = mark


class EmbeddedServerFailed(OpsError):
    """A private server could not be found, did not start, or ended while starting."""


class ProcessFailed(OpsError):
    """A process ended, or was not ready in time, while the exchange was starting."""


class FixClientFailed(OpsError):
    """A FIX client of ours cannot log on, or lost its session; says why."""


class FlowFileError(OpsError):
    """A file of recorded flow cannot be used; names the file's line and what was expected."""
