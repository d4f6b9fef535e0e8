"""What goes wrong between processes. Pure.

    ExchangeError
    └── RouterError
        ├── RedisUnavailable    no answer, or not yet (loading): wait, then do the same again
        │   └── Uncleared       a server that no leader has compared with its journal yet: likewise
        ├── OutOfMemory         Redis refused to grow; nothing was written
        ├── HomeMismatch        another database, shard or incarnation than the venue's: never start
        ├── RulesChanged        the symbol has newer rules: read its home again
        ├── VenueRefused        exchange.toml asks for a change that open orders or balances forbid
        ├── LostWrites          the server lacks what the journal has: never go on, repair
        ├── HistoryDiffers      the server has something else than the journal: never go on
        ├── ServerBehind        the server lacks outcomes, but no input: start again, commit again
        ├── ServerChanged       Redis is another server than the caller's data came from: look again
        ├── StreamGap           an entry that must follow is not there: entries were lost
        ├── Fenced              somebody else owns the shard or the session now: stop
        ├── HandedOver          an operator wants another engine to lead: commit, release, stop
        ├── NegativeBalance     a settlement would overdraw: the shard stops, nothing was applied
        ├── OutputDiffers       the same input gave other bytes before: the shard stops
        ├── SkipsChanged        an operator has skipped more inputs: the engine starts again
        ├── SkipRefused         an input that cannot be skipped: tell the operator
        └── LedgerRefused       a user, deposit or withdrawal that cannot be: tell the operator

An error reply of Redis that is none of these is a bug of ours and passes as hiredis.ReplyError.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import ExchangeError


class RouterError(ExchangeError):
    """Root of this package's errors."""


class RedisUnavailable(RouterError):
    """Redis did not answer, or cannot serve yet. Whether a sent call took effect is not known."""


class Uncleared(RedisUnavailable):
    """A server that was started, or took over, since its streams were compared with a journal.

    Nothing that counts is written there before the engine that leads has done that. A moment after
    a start; longer where the server has lost something.

    Args:
        db: the database that is not cleared.
    """

    def __init__(self, db: int) -> None:
        super().__init__(
            f"database {db}: no engine has compared this server with its journal since it started"
        )
        self.db = db


class OutOfMemory(RouterError):
    """Redis is at its memory limit and refused the call's first write; nothing was written."""


class HomeMismatch(RouterError):
    """A symbol's home is not where, or not what, this process was told; the message names both."""


class RulesChanged(RouterError):
    """A command was made under other rules than those in force; nothing was written.

    Args:
        symbol: the symbol's name.
        version: the version in force.
    """

    def __init__(self, symbol: str, version: int) -> None:
        super().__init__(f"{symbol}: its rules in force are version {version}")
        self.symbol = symbol
        self.version = version


class VenueRefused(RouterError):
    """A change in exchange.toml that is not possible now.

    Args:
        key: what stands in exchange.toml, such as ``symbols.BTC-USD.tick_size``.
        reason: why not.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class LostWrites(RouterError):
    """Streams end before the journal does: a server that took over lacks acknowledged writes.

    Args:
        shard: its number.
        lost: key of each such stream, the first and the last number that it lacks.
    """

    def __init__(self, shard: int, lost: Sequence[tuple[str, int, int]]) -> None:
        super().__init__(
            f"shard {shard}: Redis has lost what the journal has: "
            + "; ".join(_list_lost(*one) for one in lost)
            + f"; to put it back: shardex repair {shard}"
        )
        self.shard = shard
        self.lost = tuple(lost)


def _list_lost(key: str, first: int, last: int) -> str:
    """Return every number that a stream lacks; they follow one another."""
    if first == last:
        return f"{key} lacks {first}"
    return f"{key} lacks {first} to {last} ({last - first + 1})"


class HistoryDiffers(RouterError):
    """A stream has another entry than the journal under the same number: it went on without it.

    Nothing can be added to such a stream. The server that was lost has to come back.

    Args:
        key: of the stream.
        number: the entry.
    """

    def __init__(self, key: str, number: int) -> None:
        super().__init__(
            f"{key}: entry {number} is not the one that the journal has: this Redis has gone on"
            " from an older state; bring back the server, or the backup, that the journal is of"
        )
        self.key = key
        self.number = number


class ServerBehind(RouterError):
    """A server that took over lacks outcomes that this engine has committed; no input is lost.

    Args:
        symbol: the symbol's name.
        position: up to where it has them.
        committed: up to where it had them.
    """

    def __init__(self, symbol: str, position: int, committed: int) -> None:
        super().__init__(
            f"{symbol}: Redis has outcomes up to seq {position}, {committed} was committed: the"
            " engine starts again and commits the rest once more"
        )
        self.symbol = symbol
        self.position = position
        self.committed = committed


class ServerChanged(RouterError):
    """What was read came from another server than the one that a write met; nothing was written."""


class StreamGap(RouterError):
    """A dense stream does not go on where it must.

    Args:
        key: the stream's key.
        expected: the number that follows the last one.
        received: the number that came.
    """

    def __init__(self, key: str, expected: int, received: int) -> None:
        super().__init__(f"{key}: expected {expected}, received {received}")
        self.key = key
        self.expected = expected
        self.received = received


class Fenced(RouterError):
    """The lease or session that a write was made under belongs to somebody else now."""


class HandedOver(RouterError):
    """The leader of a shard was asked to let another engine lead; its lease still holds."""


class NegativeBalance(RouterError):
    """Settling an input would make a balance negative; nothing of that input was applied.

    Args:
        symbol: the symbol's name.
        seq: the input.
        account: whose balance.
        field: which one, such as ``USD:p``.
    """

    def __init__(self, symbol: str, seq: int, account: int, field: str) -> None:
        super().__init__(f"{symbol} seq {seq}: balance {field} of account {account} would overdraw")
        self.symbol = symbol
        self.seq = seq
        self.account = account
        self.field = field


class OutputDiffers(RouterError):
    """The output of an input is not, byte for byte, the one that was published before.

    Args:
        symbol: the symbol's name.
        seq: the input.
        versions: both, as text for an operator; empty where only Redis has seen them.
    """

    def __init__(self, symbol: str, seq: int, versions: str = "") -> None:
        super().__init__(f"{symbol} seq {seq}: another output was published before{versions}")
        self.symbol = symbol
        self.seq = seq


class SkipsChanged(RouterError):
    """An engine does not know all inputs that are to be passed over: it must start again."""


class SkipRefused(RouterError):
    """An input that cannot be skipped, or not for this reason; meant for the operator."""


class LedgerRefused(RouterError):
    """A user, deposit or withdrawal that cannot be made; the message is meant for the operator."""
