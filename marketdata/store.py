"""MarketStore: reads market data's own keys at start and writes them while running.

Snapshot, ticker, candles, state and position of a symbol are written by one script, so that a
restart, after whatever crash, finds state and candles that belong to the position, and goes on
counting from there. Two processes cannot write the same market data: the position must be the one
that this process wrote last.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from marketdata.board import Board, restore_candles
from marketdata.candles import CANDLES_KEPT, TICKER_MINUTES, CandleBook
from marketdata.errors import PositionMoved, StateMismatch
from marketdata.feed import Checkpoint
from marketdata.feed_codec import decode_candle, encode_candle
from router import keys
from router.dense_ids import last_entry, last_number
from router.homes import Home
from router.market_state import ORDERS_KEPT_S
from router.redis_client import Argument, RedisLink
from router.scripts import Script, pack

STATE_VERSION: Final = 2
"""First byte of ``md:{symbol}:state``; a state of another version is refused."""

SAVED_SYMBOLS_MAX: Final = 16
"""Symbols in one call: bounds how long it holds up Redis; 1,000 levels are some 50 kB."""

_SAVE = Script("save_market_data")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Checkpoint)


class Kept(NamedTuple):
    """What was kept of one symbol."""

    checkpoint: Checkpoint
    candles: CandleBook


class MarketStore:
    """Reads and writes the keys of market data.

    Args:
        link: accounts database, for nothing else.
        levels_max: levels per side in snapshots.
    """

    def __init__(self, link: RedisLink, *, levels_max: int) -> None:
        self._link = link
        self._levels_max = levels_max
        # Per symbol the positions that may stand in Redis: from the last one acknowledged to, while
        # replies are outstanding or lost, the last one sent.
        self._acknowledged: dict[str, int] = {}
        self._sent: dict[str, int] = {}

    async def load(self, homes: Iterable[Home]) -> dict[str, Kept]:
        """Return what is kept of each symbol; the empty checkpoint where nothing was ever kept.

        Raises:
            RedisUnavailable: no reply.
            StateMismatch: state, candles, position, home and stream do not belong together.
            DecodeError: a value is none of ours.
        """
        kept = {home.symbol: await self._load(home) for home in homes}
        self._acknowledged = {symbol: one.checkpoint.seq for symbol, one in kept.items()}
        self._sent = dict(self._acknowledged)
        return kept

    async def save(
        self, boards: Sequence[Board], *, now_us: int, with_orders: Container[str] = ()
    ) -> None:
        """Write everything about these symbols as it stands now.

        Args:
            boards: at most SAVED_SYMBOLS_MAX; they may go on changing meanwhile.
            with_orders: symbols whose displayed orders are asked for.
            now_us: the clock, µs since 1970 UTC.

        Raises:
            RedisUnavailable: no reply; save again, whatever the boards hold then.
            OutOfMemory: nothing was written.
            PositionMoved: nothing was written; somebody else writes this market data.
        """
        assert len(boards) <= SAVED_SYMBOLS_MAX, "Invariant: a save is bounded"
        moves: list[Any] = []
        commands: list[tuple[Argument, ...]] = []
        stored: list[tuple[Board, dict[tuple[str, int], int]]] = []
        for board in boards:
            symbol, seq = board.symbol, board.seq
            moves += (symbol, self._acknowledged[symbol], self._sent[symbol], seq)
            changed = board.candles.changed()
            stored.append((board, {(name, c.open_us): c.seq for name, c in changed}))
            commands += self._commands(board, now_us)
            if symbol in with_orders:
                commands += self._orders(board)
            self._sent[symbol] = seq
        arguments = [argument for command in commands for argument in command]
        counts = [len(command) for command in commands]
        reply = await _SAVE.run(self._link, pack(moves), pack(counts), *arguments)
        if reply[0] == b"MOVED":
            raise PositionMoved(
                f"{keys.POSITION_MARKETDATA} of {reply[1].decode()} is {reply[2]}:"
                " another process publishes this market data, or Redis has lost the position"
            )
        assert reply[0] == b"OK", f"Invariant: a known answer, not {reply[0]!r}"
        for index, (board, seqs) in enumerate(stored):
            self._acknowledged[board.symbol] = moves[4 * index + 3]
            board.candles.stored(seqs)

    def _commands(self, board: Board, now_us: int) -> list[tuple[Argument, ...]]:
        symbol, candles = board.symbol, board.candles
        state = bytes((STATE_VERSION,)) + _ENCODER.encode(board.checkpoint())
        commands: list[tuple[Argument, ...]] = [("SET", keys.md_state(symbol), state)]
        snapshot = board.snapshot(levels_max=self._levels_max, now_us=now_us)
        ticker, phase = board.ticker(now_us=now_us), board.phase()
        if snapshot is not None and ticker is not None and phase is not None:
            commands.append(("SET", keys.md_phase(symbol), phase))
            commands.append(("SET", keys.md_snapshot(symbol), snapshot))
            commands.append(("SET", keys.md_ticker(symbol), ticker))
        for name, candle in candles.changed():
            key, score = keys.md_candles(symbol, name), candle.open_us
            commands.append(("ZREMRANGEBYSCORE", key, score, score))
            commands.append(("ZADD", key, score, encode_candle(candle, candles.places)))
            commands.append(("ZREMRANGEBYRANK", key, 0, -CANDLES_KEPT[name] - 1))
        return commands

    def _orders(self, board: Board) -> list[tuple[Argument, ...]]:
        # In the same script as the position: a process that writes no more writes no orders either.
        value = board.orders(run_id=self._link.run_id)
        if value is None:
            return []
        return [("SET", keys.md_orders(board.symbol), value, "EX", ORDERS_KEPT_S)]

    async def _load(self, home: Home) -> Kept:
        symbol = home.symbol
        intervals = list(CANDLES_KEPT)
        replies = await self._link.pipeline(
            [
                ("MULTI",),
                ("HGET", keys.POSITION_MARKETDATA, symbol),
                ("GET", keys.md_state(symbol)),
                *(
                    ("ZRANGE", keys.md_candles(symbol, name), _oldest_needed(name), -1)
                    for name in intervals
                ),
                ("EXEC",),
            ]
        )
        position, state, *rows = replies[-1]
        texts = {
            name: [decode_candle(data) for data in row]
            for name, row in zip(intervals, rows, strict=True)
        }
        checkpoint = _decode_state(symbol, state)
        seq = checkpoint.seq
        newest = max((text.seq for row in texts.values() for text in row), default=0)
        if int(position or 0) != seq or newest > seq:
            raise StateMismatch(
                symbol,
                f"position {int(position or 0)}, state at seq {seq} and candles at seq {newest} do"
                f" not belong together; to make them anew from events:{symbol}, remove"
                f" md:{symbol}:* and the position",
            )
        if checkpoint.defined is not None and checkpoint.defined.incarnation != home.incarnation:
            raise StateMismatch(
                symbol,
                f"expected incarnation {home.incarnation}, kept {checkpoint.defined.incarnation}",
            )
        await self._check_stream(home, seq)
        return Kept(checkpoint, restore_candles(texts))

    async def _check_stream(self, home: Home, seq: int) -> None:
        async with self._link.sibling(home.db) as link:
            last = await link.call(*last_entry(keys.events(home.symbol)))
        last_seq = last_number(last)
        if last_seq < seq:
            raise StateMismatch(
                home.symbol, f"kept up to seq {seq}, but its events end at seq {last_seq}"
            )


def _oldest_needed(interval: str) -> int:
    return -TICKER_MINUTES if interval == "1m" else -1


def _decode_state(symbol: str, state: bytes | None) -> Checkpoint:
    if state is None:
        return Checkpoint.empty(symbol)
    if state[:1] != bytes((STATE_VERSION,)):
        raise StateMismatch(symbol, f"expected state version {STATE_VERSION}, found {state[:1]!r}")
    try:
        return _DECODER.decode(state[1:])
    except msgspec.DecodeError as error:
        raise StateMismatch(symbol, f"its state does not decode: {error}") from error
