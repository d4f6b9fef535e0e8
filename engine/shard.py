"""Shard: the symbols of one engine; a deterministic function of their streams. Pure.

`apply` takes the next input of a symbol and returns all that it does. The same inputs give the same
bytes, in whatever order an engine meets its symbols: each symbol has a state of its own, ids derive
from (symbol, seq, index), and time is the input's stamp. A symbol's first input defines it.

`apply` raises only for bugs of ours: an input out of sequence, or one that our other parts must not
have let into the stream; an operator then says that the engine is to `skip` it. What users get
wrong is answered by events.
"""

from __future__ import annotations

import hashlib

import msgspec

from engine.commands import Command, DefineSymbol
from engine.errors import SequenceGap
from engine.events import Output, SymbolDefined
from engine.matcher_content import MatcherContent
from engine.matching import Matcher
from engine.skip import skip
from engine.turn import OpenUpdate, Turn

_encode = msgspec.msgpack.Encoder().encode


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What one input did, and what committing it needs besides.

    Attributes:
        output: Events and balance changes.
        opens: Changed entries of open orders.
        best_bid_ticks, best_ask_ticks: Of the book afterwards; 0 = none.
    """

    output: Output
    opens: list[OpenUpdate]
    best_bid_ticks: int
    best_ask_ticks: int


class StateContent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What `SymbolState.encode` encodes; the fields are those of SymbolState."""

    incarnation: str
    seq: int
    ts_us: int
    matcher: MatcherContent


class SymbolState:
    """One symbol: all that its next input depends on.

    Attributes:
        incarnation: Of its stream.
        matcher: Book, orders and rules.
        seq: Of the last input; 0 before the first. It moves before the input is applied, so a state
            that an assertion left half changed counts as one that was never committed.
        ts_us: Stamp of the last input, µs since 1970 UTC.
    """

    __slots__ = ("incarnation", "matcher", "seq", "ts_us")

    def __init__(self, incarnation: str, matcher: Matcher, seq: int, ts_us: int) -> None:
        self.incarnation = incarnation
        self.matcher = matcher
        self.seq = seq
        self.ts_us = ts_us

    def encode(self) -> bytes:
        """Return all that the next inputs depend on, as bytes; equal states give equal bytes."""
        return _encode(StateContent(self.incarnation, self.seq, self.ts_us, self.matcher.content()))


class Shard:
    """The books, orders and positions of any number of symbols."""

    __slots__ = ("_symbols",)

    def __init__(self) -> None:
        self._symbols: dict[str, SymbolState] = {}

    def apply(self, symbol: str, seq: int, ts_us: int, command: Command) -> Applied:
        """Apply the next input of a symbol.

        Args:
            symbol: Its name.
            seq: The input's number: one more than the last, 1 for the first.
            ts_us: The input's stamp, in µs since 1970 UTC; never earlier than the last.
            command: The input.

        Raises:
            SequenceGap: The input is not the next one. Nothing was changed.
            AssertionError: A bug of ours. The symbol's state is not to be used any further.
        """
        state = self._symbols.get(symbol)
        last_seq = state.seq if state is not None else 0
        if seq != last_seq + 1:
            raise SequenceGap(symbol, last_seq + 1, seq)
        turn = Turn(seq, ts_us)
        if state is not None:
            state.seq = seq
        if type(command) is DefineSymbol:  # isinstance costs 0.5 µs on a miss of a Struct
            state = self._define(symbol, state, turn, command)
        else:
            assert state is not None, f"Invariant: the first input of {symbol} defines it"
            state.matcher.apply(turn, command)
        assert ts_us >= state.ts_us, f"Invariant: stamps never fall ({symbol}, seq {seq})"
        return _finish(symbol, state, turn, ts_us)

    def skip(self, symbol: str, seq: int, ts_us: int, payload: bytes, reason: str) -> Applied:
        """Pass over the next input of a symbol, which `apply` cannot apply.

        Its one event is ``Skipped``: the book stays as it is, what the input reserved is free
        again. A stamp that falls counts as the last one. A shard on which `apply` raised an
        AssertionError is no more fit for this than for another input.

        Args:
            symbol, seq, ts_us: See `apply`.
            payload: The input as it stands in the stream; it need not be a command.
            reason: The operator's, for whoever sent the input.

        Raises:
            SequenceGap: The input is not the next one. Nothing was changed.
            AssertionError: It defines the symbol, which cannot be passed over.
        """
        state = self._symbols.get(symbol)
        last_seq = state.seq if state is not None else 0
        if seq != last_seq + 1:
            raise SequenceGap(symbol, last_seq + 1, seq)
        assert state is not None, f"Invariant: the first input of {symbol} defines it"
        turn = Turn(seq)
        state.seq = seq
        skip(turn, state.matcher, payload, reason)
        return _finish(symbol, state, turn, max(ts_us, state.ts_us))

    def state(self, symbol: str) -> SymbolState:
        """Return the whole state of a defined symbol, to save it.

        Raises:
            KeyError: The symbol is not defined.
        """
        return self._symbols[symbol]

    def restore_symbol(self, symbol: str, state: SymbolState) -> None:
        """Go on with a symbol, which is not defined yet, from a state of its own."""
        assert symbol not in self._symbols, f"Invariant: {symbol} is restored before its inputs"
        self._symbols[symbol] = state

    def symbols(self) -> list[str]:
        """Return the symbols defined so far, sorted."""
        return sorted(self._symbols)

    def position(self, symbol: str) -> int:
        """Return the seq of a symbol's last applied input; 0 before the first."""
        state = self._symbols.get(symbol)
        return 0 if state is None else state.seq

    def due_us(self, symbol: str) -> int:
        """Return when a defined symbol has something to do though no input comes.

        Returns:
            0: never; 1: now; else a stamp in µs since 1970 UTC, which may have passed: an input
            whose stamp has come to it does what is due.

        Raises:
            KeyError: The symbol is not defined.
        """
        return self._symbols[symbol].matcher.due_us()

    def matcher(self, symbol: str) -> Matcher:
        """Return the state of a defined symbol, to look at.

        Raises:
            KeyError: The symbol is not defined.
        """
        return self._symbols[symbol].matcher

    def state_hash(self, symbol: str) -> str:
        """Return a digest of all that the next inputs of a defined symbol depend on.

        Raises:
            KeyError: The symbol is not defined.
        """
        return digest_of(self._symbols[symbol].encode())

    def check_invariants(self) -> None:
        """Walk everything and assert what must hold. For tests and audits; slow.

        Raises:
            AssertionError: Something does not.
        """
        for state in self._symbols.values():
            state.matcher.check_invariants()

    def _define(
        self, symbol: str, state: SymbolState | None, turn: Turn, command: DefineSymbol
    ) -> SymbolState:
        rules = command.rules
        assert rules.symbol == symbol, f"Invariant: {symbol} is not defined as {rules.symbol}"
        if state is None:
            assert rules.version == 1, "Invariant: a symbol begins with version 1 of its rules"
            state = self._symbols[symbol] = SymbolState(
                command.incarnation, Matcher(rules), turn.seq, 0
            )
        else:
            assert command.incarnation == state.incarnation, "Invariant: a stream has one home"
            state.matcher.change_rules(rules)
        turn.events.append(SymbolDefined(0, command.incarnation, rules))
        return state


def _finish(symbol: str, state: SymbolState, turn: Turn, ts_us: int) -> Applied:
    state.ts_us = ts_us
    book, rules = state.matcher.book, state.matcher.rules
    return Applied(
        Output(symbol, turn.seq, ts_us, turn.events, turn.changes(rules.base, rules.quote)),
        turn.opens(),
        book.bids.live_best().price_ticks,
        book.asks.live_best().price_ticks,
    )


def digest_of(encoded: bytes) -> str:
    """Return the digest of an encoded state."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
