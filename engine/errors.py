"""The root of every error that shardex raises, and the engine's own family. Pure.

    ExchangeError
    ├── DecodeError          bytes that are not a message of ours
    ├── InstrumentError      rules of a symbol that contradict themselves
    ├── JournalCorrupt       a journal that is damaged elsewhere than at its torn tail
    ├── JournalLocked        another process writes this journal
    ├── JournalMismatch      a journal of something else: owner, history or format version
    ├── JournalSyncFailed    what was written may not be on disk; only opening again tells
    ├── JournalWriteFailed   the disk refused a batch; nothing of it stands in the journal
    ├── PoisonCommand        a command in a stream that the shard cannot apply: it stops there
    ├── RingFull             a claim beyond the slowest consumer
    └── SequenceGap          an input that is not the next of its symbol

The other packages hang their families under the same root (``router/errors.py``,
``gateway/errors.py``, ``persistence/errors.py``). What a peer or a user did wrong is never an
``assert``; asserts state our own invariants and stay on in production.
"""

from __future__ import annotations


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
    """A command trips an assertion or does not decode; applying it again would, too.

    Args:
        symbol: the symbol's name.
        seq: the command's place in the symbol's stream.
        reason: what went wrong.
    """

    def __init__(self, symbol: str, seq: int, reason: str) -> None:
        super().__init__(f"{symbol} seq {seq} cannot be applied: {reason}")
        self.symbol = symbol
        self.seq = seq


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
