"""The public messages of market data, as JSON; ``docs/market-data.md`` shows one of each. Pure.

| type | where | fields beside ``type symbol seq ts`` |
|---|---|---|
| trades | ``:trades`` | ``prev_seq``; ``trades``: [{id, price, qty, side}]; null: an auction |
| bbo | ``:bbo`` | ``prev_seq``; ``bid_price bid_qty ask_price ask_qty``, null: empty side |
| depth | ``:depth`` | ``prev_seq``; ``bids asks``: [[price, new total, orders]], 0: level gone |
| status | ``:status`` | ``prev_seq``; ``phase reason auction_price auction_qty`` |
| rules | ``:depth`` | ``prev_seq``; ``tick_size lot_size version``: in force from here on |
| heartbeat | every channel | ``prev_seq`` = ``seq`` = the last one; ``channel incarnation`` |
| snapshot | ``:snapshot`` | see ``SnapshotMessage`` |
| phase | ``:phase`` | the last status message's fields; ``since``, ``incarnation``: see the doc |
| ticker | ``:ticker`` | see ``board.Board.ticker`` |
| candle | ``:candles:…`` | see ``CandleText``; without ``type symbol ts`` |

``ts`` is the command's stamp in µs since 1970 UTC; every price, quantity and amount is decimal
text. Whoever reads a message ignores fields that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from engine.enums import Side
from engine.errors import DecodeError
from engine.instrument import DecimalGrid, SymbolRules
from engine.price_levels import Bbo, LevelChange
from engine.trades import Trade
from marketdata.candles import Candle, Places
from marketdata.updates import Phase, Update

_TEXTS_CACHED: Final = 16_384
"""Formatted prices and quantities kept per symbol, some 2 MB: the levels of a large book."""

_SIDES: Final = {Side.BUY: "buy", Side.SELL: "sell", None: None}
_JSON_SIDES: Final = {Side.BUY: '"buy"', Side.SELL: '"sell"', None: "null"}
_EMPTY_SIDE: Final = ("null", "null")

LevelText = tuple[str, str, int]
"""Price, total and number of orders of a level."""


class TradeText(msgspec.Struct, frozen=True):
    """One trade; ``id`` is SecondaryExecID (527) of both reports."""

    id: str
    price: str
    qty: str
    side: str | None


class TradesMessage(msgspec.Struct, frozen=True, tag="trades"):
    """The trades of one input, in the order in which they happened."""

    symbol: str
    seq: int
    prev_seq: int
    ts: int
    trades: list[TradeText]


class BboMessage(msgspec.Struct, frozen=True, tag="bbo"):
    """Best bid and offer after one input; None on an empty side."""

    symbol: str
    seq: int
    prev_seq: int
    ts: int
    bid_price: str | None
    bid_qty: str | None
    ask_price: str | None
    ask_qty: str | None


class DepthMessage(msgspec.Struct, frozen=True, tag="depth"):
    """The levels that one input touched, as they stand after it."""

    symbol: str
    seq: int
    prev_seq: int
    ts: int
    bids: list[LevelText]
    asks: list[LevelText]


class RulesMessage(msgspec.Struct, frozen=True, tag="rules"):
    """The symbol begins or has changed rules; the book is empty if tick or lot size changed."""

    symbol: str
    seq: int
    prev_seq: int
    ts: int
    tick_size: str
    lot_size: str
    version: int


class StatusMessage(msgspec.Struct, frozen=True, tag="status"):
    """The symbol is in another trading phase; price and volume of an auction where one began."""

    symbol: str
    seq: int
    prev_seq: int
    ts: int
    phase: str
    reason: str
    auction_price: str | None
    auction_qty: str | None


class HeartbeatMessage(msgspec.Struct, frozen=True, tag="heartbeat"):
    """A channel's last seq once more, every second."""

    symbol: str
    seq: int
    prev_seq: int
    ts: int
    channel: str
    incarnation: str


Message = (
    TradesMessage | BboMessage | DepthMessage | RulesMessage | StatusMessage | HeartbeatMessage
)


class LastSeqs(msgspec.Struct, frozen=True):
    """Seq of the last message of each channel at a snapshot."""

    trades: int
    bbo: int
    depth: int
    status: int


class SnapshotMessage(msgspec.Struct, frozen=True, tag="snapshot"):
    """A symbol's whole public state after input ``seq``.

    ``complete`` is false where a side has more than ``levels_max`` levels; the best so many are
    given. ``written`` is the publisher's clock (µs), for judging whether anybody still writes.
    """

    symbol: str
    seq: int
    ts: int
    written: int
    incarnation: str
    rules: int
    tick_size: str
    lot_size: str
    last_seq: LastSeqs
    phase: str
    bid_price: str | None
    bid_qty: str | None
    ask_price: str | None
    ask_qty: str | None
    complete: bool
    levels_max: int
    bids: list[LevelText]
    asks: list[LevelText]
    trades: list[TradeText]


_MESSAGES: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_SNAPSHOTS = msgspec.json.Decoder(SnapshotMessage)


def decode_message(data: bytes | str) -> Message:
    """Decode one message of a channel.

    Raises:
        DecodeError: it is no message of this version.
    """
    try:
        return _MESSAGES.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a market data message: {error} ({data[:80]!r})") from error


def decode_snapshot(data: bytes | str) -> SnapshotMessage:
    """Decode the value of a snapshot key.

    Raises:
        DecodeError: it is no snapshot of this version.
    """
    try:
        return _SNAPSHOTS.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a snapshot: {error} ({data[:80]!r})") from error


class SymbolTexts:
    """The messages of one symbol under one version of its rules.

    Args:
        rules: they give the decimals.
    """

    __slots__ = ("_bbo", "_depth", "_id", "_price", "_qty", "_trades", "rules")

    def __init__(self, rules: SymbolRules) -> None:
        self.rules = rules
        self._price = lru_cache(_TEXTS_CACHED)(DecimalGrid(rules.tick_size).format)
        self._qty = lru_cache(_TEXTS_CACHED)(DecimalGrid(rules.lot_size).format)
        # Messages of updates are put together as text: symbols and decimals need no escapes, and a
        # dict for the encoder would cost twice as much.
        self._trades, self._bbo, self._depth = (
            f'{{"type":"{channel}","symbol":"{rules.symbol}","seq":'
            for channel in ("trades", "bbo", "depth")
        )
        self._id = f'{{"id":"{rules.symbol}-'

    def trades(self, update: Update) -> bytes:
        """Return the message of an update's trades."""
        price, qty, head = self._price, self._qty, self._id
        trades = ",".join(
            [
                f'{head}{trade.seq}-{trade.trade}","price":"{price(trade.price_ticks)}",'
                f'"qty":"{qty(trade.qty_lots)}","side":{_JSON_SIDES[trade.aggressor]}}}'
                for trade in update.trades
            ]
        )
        return (
            f'{self._trades}{update.seq},"prev_seq":{update.before.trades},'
            f'"ts":{update.ts_us},"trades":[{trades}]}}'
        ).encode()

    def bbo(self, update: Update) -> bytes:
        """Return the message of an update's best bid and offer, which must have changed."""
        bbo = update.bbo
        assert bbo is not None, "Invariant: a bbo message tells a change"
        bid = ask = _EMPTY_SIDE
        if bbo.bid_lots:
            bid = f'"{self._price(bbo.bid_ticks)}"', f'"{self._qty(bbo.bid_lots)}"'
        if bbo.ask_lots:
            ask = f'"{self._price(bbo.ask_ticks)}"', f'"{self._qty(bbo.ask_lots)}"'
        return (
            f'{self._bbo}{update.seq},"prev_seq":{update.before.bbo},"ts":{update.ts_us},'
            f'"bid_price":{bid[0]},"bid_qty":{bid[1]},"ask_price":{ask[0]},"ask_qty":{ask[1]}}}'
        ).encode()

    def depth(self, update: Update) -> bytes:
        """Return the message of the levels that an update touched."""
        bids, asks = self._levels(update.bids), self._levels(update.asks)
        return (
            f'{self._depth}{update.seq},"prev_seq":{update.before.depth},"ts":{update.ts_us},'
            f'"bids":[{bids}],"asks":[{asks}]}}'
        ).encode()

    def _levels(self, levels: list[LevelChange]) -> str:
        if not levels:
            return ""
        price, qty = self._price, self._qty
        return ",".join(
            [f'["{price(one.price_ticks)}","{qty(one.qty_lots)}",{one.orders}]' for one in levels]
        )

    def level_list(self, levels: Iterable[LevelChange]) -> list[LevelText]:
        """Return levels as public text."""
        price, qty = self._price, self._qty
        return [(price(one.price_ticks), qty(one.qty_lots), one.orders) for one in levels]

    def trade_list(self, symbol: str, trades: Sequence[Trade]) -> list[dict[str, str | None]]:
        """Return trades as public text."""
        return [
            {
                "id": f"{symbol}-{trade.seq}-{trade.trade}",
                "price": self._price(trade.price_ticks),
                "qty": self._qty(trade.qty_lots),
                "side": _SIDES[trade.aggressor],
            }
            for trade in trades
        ]

    def phase_fields(self, phase: Phase) -> dict[str, str | None]:
        """Return the fields of a trading phase."""
        had_auction = phase.auction_lots > 0
        return {
            "phase": phase.phase.name.lower(),
            "reason": phase.reason.name.lower(),
            "auction_price": self._price(phase.auction_ticks) if had_auction else None,
            "auction_qty": self._qty(phase.auction_lots) if had_auction else None,
        }

    def status(self, update: Update) -> bytes:
        """Return the message of an update's trading phase, which must have changed."""
        phase = update.phase
        assert phase is not None, "Invariant: a status message tells a change"
        return orjson.dumps(
            {
                "type": "status",
                "symbol": update.symbol,
                "seq": update.seq,
                "prev_seq": update.before.status,
                "ts": update.ts_us,
                **self.phase_fields(phase),
            }
        )

    def bbo_fields(self, bbo: Bbo) -> dict[str, str | None]:
        """Return the fields of a best bid and offer."""
        bid, ask = bbo.bid_lots, bbo.ask_lots
        return {
            "bid_price": self._price(bbo.bid_ticks) if bid else None,
            "bid_qty": self._qty(bid) if bid else None,
            "ask_price": self._price(bbo.ask_ticks) if ask else None,
            "ask_qty": self._qty(ask) if ask else None,
        }


def encode_rules(update: Update) -> bytes:
    """Return the message of new rules."""
    assert update.defined is not None, "Invariant: a rules message tells a definition"
    rules = update.defined.rules
    return orjson.dumps(
        {
            "type": "rules",
            "symbol": update.symbol,
            "seq": update.seq,
            "prev_seq": update.before.depth,
            "ts": update.ts_us,
            "tick_size": rules.tick_size,
            "lot_size": rules.lot_size,
            "version": rules.version,
        }
    )


def encode_heartbeat(symbol: str, channel: str, *, seq: int, ts_us: int, incarnation: str) -> bytes:
    """Return a heartbeat: the channel's last seq as both ``seq`` and ``prev_seq``."""
    return orjson.dumps(
        {
            "type": "heartbeat",
            "symbol": symbol,
            "seq": seq,
            "prev_seq": seq,
            "ts": ts_us,
            "channel": channel,
            "incarnation": incarnation,
        }
    )


def encode_json(value: dict[str, Any]) -> bytes:
    """Return a value of text, integers, booleans, lists and dicts as JSON."""
    return orjson.dumps(value)


class CandleText(msgspec.Struct, frozen=True):
    """One candle as it stands in its key; ``open_time`` in µs since 1970 UTC."""

    open_time: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trades: int
    seq: int


_CANDLES = msgspec.json.Decoder(CandleText)


def encode_candle(candle: Candle, places: Places) -> bytes:
    """Return a candle: a member of its sorted set."""
    price = DecimalGrid.of_scale(places.price).format
    return orjson.dumps(
        {
            "open_time": candle.open_us,
            "open": price(candle.open),
            "high": price(candle.high),
            "low": price(candle.low),
            "close": price(candle.close),
            "volume": DecimalGrid.of_scale(places.base).format(candle.base),
            "quote_volume": DecimalGrid.of_scale(places.quote).format(candle.quote),
            "trades": candle.trades,
            "seq": candle.seq,
        }
    )


def decode_candle(data: bytes) -> CandleText:
    """Decode a member of a candle key.

    Raises:
        DecodeError: it is no candle of this version.
    """
    try:
        return _CANDLES.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a candle: {error} ({data[:80]!r})") from error
