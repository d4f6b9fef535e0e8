"""What goes wrong between processes. Pure.

    ExchangeError
    └── RouterError
        ├── RedisUnavailable    no answer, or not yet (loading): wait, then do the same again
        ├── OutOfMemory         Redis refused to grow; nothing was written
        ├── HomeMismatch        another database, shard or incarnation than the venue's: never start
        ├── RulesChanged        the symbol has newer rules: read its home again
        ├── VenueRefused        exchange.toml asks for a change that open orders or balances forbid
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

from engine.errors import ExchangeError


class RouterError(ExchangeError):
    """Root of this package's errors."""


class RedisUnavailable(RouterError):
    """Redis did not answer, or cannot serve yet. Whether a sent call took effect is not known."""


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
