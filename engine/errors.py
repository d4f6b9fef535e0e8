"""The root of every error that shardex raises, and the engine's own family. Pure.

    ExchangeError
    ├── DecodeError          bytes that are not a message of ours
    ├── InstrumentError      rules of a symbol that contradict themselves
    ├── JournalCorrupt       a journal that is damaged elsewhere than at its torn tail
    │   └── JournalGap       a segment of it is gone
    ├── JournalLocked        another process writes this journal
    ├── JournalMismatch      a journal of something else: owner, history or format version
    ├── JournalSyncFailed    what was written may not be on disk; only opening again tells
    ├── JournalWriteFailed   the disk refused a batch; nothing of it stands in the journal
    ├── PoisonCommand        a command in a stream that the shard cannot apply: it stops there
    ├── RingFull             a claim beyond the slowest consumer
    ├── RecoveryGap          commands that neither journals nor stream have any more
    ├── SequenceGap          an input that is not the next of its symbol
    ├── SnapshotCorrupt      a snapshot that is not whole, or not of what it should be
    └── SnapshotVersion      a snapshot of another format version

The other packages hang their families under the same root (``router/errors.py``,
``gateway/errors.py``, ``persistence/errors.py``). What a peer or a user did wrong is never an
``assert``; asserts state our own invariants and stay on in production.
"""

from __future__ import annotations

from collections.abc import Mapping


class ExchangeError(Exception):
    """Root of the tree: catch it at the top of a process only."""


class DecodeError(ExchangeError):
    """Bytes from a stream, outbox or journal do not decode as the message they should be."""


class InstrumentError(ExchangeError):
    """The rules of a symbol contradict themselves; the message names the key."""


class JournalCorrupt(ExchangeError):
    """A journal segment is damaged before its tail: never truncated, never skipped.

    Args:
        path: the segment file.
        offset_bytes: where the damaged record starts.
        reason: what was expected and what was found.
    """

    def __init__(self, path: str, offset_bytes: int, reason: str) -> None:
        super().__init__(f"journal {path} is corrupt at byte {offset_bytes}: {reason}")
        self.path = path
        self.offset_bytes = offset_bytes
        self.reason = reason


class JournalGap(JournalCorrupt):
    """A segment of a journal is gone, moved away or lost; the others may be as they were.

    Args:
        directory: the journal's.
        first, last: the records that are missing, by number; the first of a journal is 0.
    """

    def __init__(self, directory: str, first: int, last: int) -> None:
        ExchangeError.__init__(
            self, f"journal {directory}: records {first} to {last} are missing: a segment is gone"
        )
        self.path = directory
        self.offset_bytes = 0
        self.reason = f"records {first} to {last} are missing"


class JournalLocked(ExchangeError):
    """Another process writes the journal in this directory; two would destroy it."""


class JournalMismatch(ExchangeError):
    """A journal is not the expected one: its kind, owner, incarnation or format version differs."""


class JournalSyncFailed(ExchangeError):
    """The disk failed to make written records durable, or to cut a failed write off again.

    The system may have dropped the pages and may report success the next time, so the journal is
    not usable any more: the process stops, and opening it again finds out what is on disk.
    """


class JournalWriteFailed(ExchangeError):
    """The disk refused a batch; the segment ends at its last whole record and takes a retry."""


class PoisonCommand(ExchangeError):
    """A command trips an assertion or a bug, or does not decode; applying it again would, too.

    Args:
        symbol: the symbol's name.
        seq: the command's place in the symbol's stream.
        reason: what went wrong.
    """

    def __init__(self, symbol: str, seq: int, reason: str) -> None:
        super().__init__(f"{symbol} seq {seq} cannot be applied: {reason}")
        self.symbol = symbol
        self.seq = seq


class RecoveryGap(ExchangeError):
    """Commands between a shard's position and its stream's first entry are nowhere to be found.

    Args:
        symbol: the symbol's name.
        expected_seq: the next command that the shard needs.
        stream_first_seq: where the stream begins.
        journals: each journal's name and the last seq that it has of the symbol.
    """

    def __init__(
        self, symbol: str, expected_seq: int, stream_first_seq: int, journals: Mapping[str, int]
    ) -> None:
        ends = ", ".join(f"{name} ends at {seq}" for name, seq in journals.items())
        super().__init__(
            f"{symbol}: seq {expected_seq} is needed, the stream begins at {stream_first_seq},"
            f" and no journal fills the gap ({ends or 'there is none'})"
        )
        self.symbol = symbol
        self.expected_seq = expected_seq
        self.stream_first_seq = stream_first_seq


class RingFull(ExchangeError):
    """More slots were claimed than the slowest consumer has left free."""


class SequenceGap(ExchangeError):
    """An input is not the one that follows the last applied input of its symbol.

    Args:
        symbol: the symbol's name.
        expected_seq: the next sequence number of the symbol.
        received_seq: the one that came.
    """

    def __init__(self, symbol: str, expected_seq: int, received_seq: int) -> None:
        super().__init__(f"{symbol}: expected seq {expected_seq}, received {received_seq}")
        self.symbol = symbol
        self.expected_seq = expected_seq
        self.received_seq = received_seq


class SnapshotCorrupt(ExchangeError):
    """A snapshot is damaged, half written, or not of the symbol, stream and seq that it should be.

    Args:
        snapshot: the file, or another name for it.
        what: the part that is wrong.
        expected: what should be there.
        found: what is there.
    """

    def __init__(self, snapshot: str, what: str, expected: object, found: object) -> None:
        super().__init__(f"snapshot {snapshot}: {what}: expected {expected}, found {found}")
        self.snapshot = snapshot
        self.what = what


class SnapshotVersion(ExchangeError):
    """A snapshot has another format version than this program writes and reads."""

    def __init__(self, snapshot: str, expected: int, found: int) -> None:
        super().__init__(f"snapshot {snapshot}: format version {found}, expected {expected}")
        self.snapshot = snapshot
