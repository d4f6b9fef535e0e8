"""Apply the commands of an engine's journal again, and compare with the hashes beside them. Pure.

A ``hash:{symbol}`` record stands behind its commands, at most a ring of the engine later. So the
outputs of a symbol wait until their hash comes; what no hash covers is counted, not compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from engine.commands import decode_command
from engine.errors import DecodeError, ExchangeError, PoisonCommand, SequenceGap
from engine.events import Output, decode_output, encode_output
from engine.journal import Record
from engine.journal_keys import LEDGER, decode_hash, digest_of, hash_key, skipped_symbol
from engine.ledger_entries import decode_ledger_entry
from engine.shard import Applied, Shard

PENDING_OUTPUTS_MAX = 65_536
"""Outputs of one symbol that wait for their hash: 16 rings of an engine, some 20 MB. The oldest
then count as outputs without a hash, though theirs may come yet."""

OUTPUTS_SHOWN_MAX = 20
"""Outputs of a differing range that are written out; a range has at most a commit's."""

Skips = Mapping[str, Mapping[int, str]]
"""Symbol → seq → reason."""


class ReplayDifference(msgspec.Struct, frozen=True):
    """One thing in a journal that is not as it must be.

    Attributes:
        journal: the directory's name.
        symbol: or ``ledger``; empty where the journal itself is damaged.
        kind: ``outputs`` (they have another hash), ``hash`` (a hash of what is not there),
            ``sequence``, ``poison``, ``invariant``, ``ledger`` or ``journal``.
        first, last: the inputs that it is about; 0 where none can be named.
        text: what was expected and what was found.
        outputs: of ``outputs``: what was recomputed, decoded, at most OUTPUTS_SHOWN_MAX.
    """

    journal: str
    symbol: str
    kind: str
    first: int
    last: int
    text: str
    outputs: list[str] = []

    def __str__(self) -> str:
        """Return it as a line, and one more for each output."""
        where = f"{self.journal} {self.symbol}".rstrip()
        seqs = f" seq {self.first} to {self.last}" if self.last else ""
        return "\n    ".join([f"{self.kind}: {where}{seqs}: {self.text}", *self.outputs])


class SymbolReplayed(msgspec.Struct, frozen=True):
    """What was replayed of one symbol.

    Attributes:
        journal, symbol: which.
        commands: applied, the skipped ones too; so the last seq.
        skipped: of these, passed over by an operator's word.
        outputs_checked: compared with a recorded hash.
        outputs_differing: of ranges whose recorded hash was not met.
        outputs_unhashed: for which the journal has no hash.
        state_hash: of the book and all else behind the last command; empty without a command.
    """

    journal: str
    symbol: str
    commands: int
    skipped: int
    outputs_checked: int
    outputs_differing: int
    outputs_unhashed: int
    state_hash: str


class _Track:
    """One symbol on its way."""

    __slots__ = (
        *("checked", "differing", "first", "let_go", "outputs", "owned", "skips", "skipped"),
        *("stopped", "unhashed"),
    )

    def __init__(self, skips: Mapping[int, str]) -> None:
        self.skips = skips
        # (account, asset) → what the symbol's inputs made of available (with pending) and held.
        self.owned: dict[tuple[int, str], list[int]] = defaultdict(_nothing)
        self.first = 1
        # The last seq that found no room to wait; a hash of it comes too late.
        self.let_go = 0
        self.outputs: list[bytes] = []
        self.checked = self.unhashed = self.differing = self.skipped = 0
        self.stopped = False

    def drop(self, count: int) -> None:
        """Forget the oldest outputs."""
        del self.outputs[:count]
        self.first += count


class JournalReplayer:
    """Replays some symbols of one journal, and the ledger if asked to; use it once.

    Args:
        journal: its name, for what is found.
        keys: symbols, and ``ledger``.
        skips: all that the journal says.

    Attributes:
        differences: of each symbol the first of its kind.
        ledger: the last entry of the ledger.
    """

    def __init__(self, journal: str, keys: Collection[str], skips: Skips) -> None:
        self._journal = journal
        self._tracks = {key: _Track(skips.get(key, {})) for key in keys if key != LEDGER}
        self._by_hash_key = {hash_key(symbol): symbol for symbol in self._tracks}
        self._follows_ledger = LEDGER in keys
        self._shard = Shard()
        self.differences: list[ReplayDifference] = []
        self.ledger = 0

    def run(self, records: Iterable[Record]) -> Iterator[Output]:
        """Apply the records and yield what each command did.

        Raises:
            JournalCorrupt, JournalMismatch: what reading the records raises.
        """
        tracks, apply, pending_max = self._tracks, self._shard.apply, PENDING_OUTPUTS_MAX
        for record in records:
            symbol = record.key
            track = tracks.get(symbol)
            if track is None:
                self._take_other(record)
                continue
            if track.stopped:
                continue
            seq, ts_us = record.seq, record.ts_ns // 1_000
            try:
                if seq in track.skips:
                    applied = self._skip(track, record)
                else:
                    applied = apply(symbol, seq, ts_us, decode_command(record.payload))
            except (AssertionError, DecodeError, SequenceGap) as error:
                self._stop(track, symbol, seq, error)
                continue
            output, outputs, owned = applied.output, track.outputs, track.owned
            outputs.append(encode_output(output))
            if len(outputs) >= pending_max:
                track.unhashed += pending_max // 2
                track.drop(pending_max // 2)
                track.let_go = track.first - 1
            for change in output.changes:
                amounts = owned[change.account, change.asset]
                amounts[0] += change.available + change.pending
                amounts[1] += change.held
            yield output

    def finish(self) -> list[SymbolReplayed]:
        """Check what must hold at the end, and return what was replayed of each symbol."""
        found = []
        for symbol, track in self._tracks.items():
            track.unhashed += len(track.outputs)
            position = self._shard.position(symbol)
            digest = ""
            if position and not track.stopped:
                self._check_end(symbol)
                digest = self._shard.state_hash(symbol)
            found.append(
                SymbolReplayed(
                    self._journal,
                    symbol,
                    track.checked + track.differing + track.unhashed,
                    track.skipped,
                    track.checked,
                    track.differing,
                    track.unhashed,
                    digest,
                )
            )
        return found

    # ------------------------------------------------------------ one record

    def _skip(self, track: _Track, record: Record) -> Applied:
        track.skipped += 1
        symbol, seq = record.key, record.seq
        return self._shard.skip(
            symbol, seq, record.ts_ns // 1_000, record.payload, track.skips[seq]
        )

    def _stop(self, track: _Track, symbol: str, seq: int, error: Exception) -> None:
        track.stopped = True
        kind, text = "sequence", str(error)
        if not isinstance(error, SequenceGap):
            kind, text = "poison", str(PoisonCommand(symbol, seq, text))
        self._differ(symbol, kind, seq, seq, f"{text}; replaying this symbol stops here")

    def _take_other(self, record: Record) -> None:
        symbol = self._by_hash_key.get(record.key)
        if symbol is not None:
            self._compare(symbol, self._tracks[symbol], record)
        elif self._follows_ledger and record.key == LEDGER:
            self._take_ledger(record)

    def _compare(self, symbol: str, track: _Track, record: Record) -> None:
        try:
            hashed = decode_hash(record.payload)
        except DecodeError as error:
            self._differ(symbol, "hash", record.seq, record.seq, str(error))
            return
        first, last = hashed.first, hashed.last
        start, end = first - track.first, last + 1 - track.first
        if start < 0 or end > len(track.outputs):
            if not track.stopped and first > track.let_go:
                had = f"{track.first} to {track.first + len(track.outputs) - 1}"
                text = f"expected a hash of outputs from {had}, which wait for one"
                self._differ(symbol, "hash", first, last, text)
            return
        outputs = track.outputs[start:end]
        if digest_of(outputs) == hashed.digest:
            track.checked += len(outputs)
        else:
            if not track.differing:
                self._differ_in_outputs(symbol, first, last, hashed.digest, outputs)
            track.differing += len(outputs)
        track.unhashed += start
        track.drop(end)

    def _take_ledger(self, record: Record) -> None:
        try:
            decode_ledger_entry(record.payload)
        except DecodeError as error:
            self._differ(LEDGER, LEDGER, record.seq, record.seq, str(error))
        if record.seq != self.ledger + 1:
            text = f"expected entry {self.ledger + 1}, found {record.seq}"
            self._differ(LEDGER, LEDGER, record.seq, record.seq, text)
        self.ledger = record.seq

    # ------------------------------------------------------------ what is found

    def _check_end(self, symbol: str) -> None:
        """Walk the book, and count the money: it only moves, and what is held is what rests."""
        try:
            self._shard.matcher(symbol).check_invariants()
        except AssertionError as error:
            self._differ(symbol, "invariant", 0, 0, str(error))
        matcher = self._shard.matcher(symbol)
        holds: dict[tuple[int, str], int] = defaultdict(int)
        for orders in matcher.accounts.values():
            for order in orders.open.values():
                holds[order.owner, matcher.rules.hold_asset(order.side)] += order.hold
        owned = self._tracks[symbol].owned
        sums: dict[str, int] = defaultdict(int)
        for account, asset in sorted({*owned, *holds}):
            available, held = owned.get((account, asset), (0, 0))
            sums[asset] += available + held
            expected = holds.get((account, asset), 0)
            if held != expected:
                text = f"account {account} holds {held} {asset}, its open orders {expected}"
                self._differ(symbol, "invariant", 0, 0, text)
        for asset, made in sums.items():
            if made:
                self._differ(symbol, "invariant", 0, 0, f"{made} units of {asset} were made")

    def _differ_in_outputs(
        self, symbol: str, first: int, last: int, digest: bytes, outputs: list[bytes]
    ) -> None:
        shown = [repr(decode_output(data)) for data in outputs[:OUTPUTS_SHOWN_MAX]]
        if len(outputs) > len(shown):
            shown.append(f"… and {len(outputs) - len(shown)} more")
        text = f"recorded hash {digest.hex()}, recomputed {digest_of(outputs).hex()} of"
        self.differences.append(
            ReplayDifference(self._journal, symbol, "outputs", first, last, text, shown)
        )

    def _differ(self, symbol: str, kind: str, first: int, last: int, text: str) -> None:
        known = any(one.symbol == symbol and one.kind == kind for one in self.differences)
        if not known:
            self.differences.append(
                ReplayDifference(self._journal, symbol, kind, first, last, text)
            )


def read_skips(records: Iterable[Record]) -> dict[str, dict[int, str]]:
    """Return every skip among the records: symbol → seq → reason.

    Raises:
        JournalCorrupt, JournalMismatch: what reading the records raises.
    """
    skips: dict[str, dict[int, str]] = defaultdict(dict)
    for record in records:
        symbol = skipped_symbol(record.key)
        if symbol is not None:
            skips[symbol][record.seq] = record.payload.decode()
    return dict(skips)


def journal_damage(journal: str, error: ExchangeError) -> ReplayDifference:
    """Return what reading a journal raised as a difference of it."""
    return ReplayDifference(journal, "", "journal", 0, 0, str(error))


def _nothing() -> list[int]:
    return [0, 0]
