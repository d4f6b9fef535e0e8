"""Publisher: the ring's consumer that broadcasts updates, and the channels' heartbeats.

One PUBLISH per channel and update, a whole batch in one write. Publishing is repeated when its
outcome is not known, and after a restart from the last saved position, so a subscriber may see a
message twice, never not at all without seeing a
gap: a message is the same each time, and ``seq`` tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from msgspec.structs import astuple

from marketdata.feed import Checkpoint
from marketdata.feed_codec import SymbolTexts, encode_heartbeat, encode_rules
from marketdata.updates import ChannelSeqs, Update
from router import keys
from router.redis_client import RedisLink, retry_while_away, succeeded


def _publish_head(channel: str) -> bytes:
    """Return all of a packed PUBLISH that comes before the message's length."""
    name = channel.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(name), name)


def _publish(head: bytes, message: bytes) -> bytes:
    # By hand: packing arguments takes twice as long, and this is market data's most frequent work.
    return b"%b%d\r\n%b\r\n" % (head, len(message), message)


class _Channels:
    """One symbol's channels: heads of commands, texts, and what has been published."""

    __slots__ = (
        *("bbo", "depth", "incarnation", "last", "seq", "status", "symbol", "texts", "trades"),
        "ts_us",
    )

    def __init__(self, checkpoint: Checkpoint) -> None:
        symbol = checkpoint.symbol
        self.symbol = symbol
        self.trades = _publish_head(keys.md_trades(symbol))
        self.bbo = _publish_head(keys.md_bbo(symbol))
        self.depth = _publish_head(keys.md_depth(symbol))
        self.status = _publish_head(keys.md_status(symbol))
        self.seq = checkpoint.seq
        self.ts_us = checkpoint.ts_us
        self.last: ChannelSeqs = checkpoint.last
        defined = checkpoint.defined
        self.texts = SymbolTexts(defined.rules) if defined else None
        self.incarnation = defined.incarnation if defined else ""

    def render(self, update: Update, into: list[bytes]) -> None:
        """Append the PUBLISH commands of an update, packed."""
        defined = update.defined
        if defined is not None:
            self.texts = SymbolTexts(defined.rules)
            self.incarnation = defined.incarnation
            into.append(_publish(self.depth, encode_rules(update)))
        texts = self.texts
        assert texts is not None, "Invariant: a stream begins with its symbol's definition"
        if update.phase is not None:
            into.append(_publish(self.status, texts.status(update)))
        if update.trades:
            into.append(_publish(self.trades, texts.trades(update)))
        if update.bids or update.asks:
            into.append(_publish(self.depth, texts.depth(update)))
        if update.bbo is not None:
            into.append(_publish(self.bbo, texts.bbo(update)))

    def heartbeats(self) -> list[bytes]:
        """Return the PUBLISH commands, packed, that repeat what has been published."""
        return [
            _publish(
                head,
                encode_heartbeat(
                    self.symbol, name, seq=seq, ts_us=self.ts_us, incarnation=self.incarnation
                ),
            )
            for head, name, seq in zip(
                (self.trades, self.bbo, self.depth, self.status),
                ChannelSeqs.__struct_fields__,
                astuple(self.last),
                strict=True,
            )
        ]


class Publisher:
    """Broadcasts updates; a handler for `engine.ring_loop.run_consumer`.

    Args:
        link: any database of the server; pub/sub knows none.
        checkpoints: where each symbol goes on.
        heartbeat_interval_ms: how often each channel repeats its last seq.

    Attributes:
        messages: number of messages sent, heartbeats not counted.
        available: False while Redis does not answer; publishing waits.
    """

    def __init__(
        self, link: RedisLink, checkpoints: Iterable[Checkpoint], *, heartbeat_interval_ms: int
    ) -> None:
        self._link = link
        self._channels = {one.symbol: _Channels(one) for one in checkpoints}
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self.messages = 0
        self.available = True

    async def __call__(self, entries: list[Update], /, *, end_of_batch: bool) -> None:
        """Publish a batch; return when Redis has taken all of it, however long that takes."""
        commands: list[bytes] = []
        channels = self._channels
        for update in entries:
            channels[update.symbol].render(update, commands)
        if commands:
            await retry_while_away(
                lambda: self._send(commands),
                what="market data publisher",
                on_change=self._on_change,
            )
        self.messages += len(commands)
        # Only now: a heartbeat must not be ahead of the message that it repeats.
        for symbol, update in {update.symbol: update for update in entries}.items():
            one = channels[symbol]
            one.seq, one.ts_us, one.last = update.seq, update.ts_us, update.after

    async def run_heartbeats(self) -> None:
        """Repeat every channel's last seq, until cancelled."""
        while True:
            await asyncio.sleep(self._heartbeat_interval_ms / 1000)
            await retry_while_away(
                self._beat, what="market data heartbeats", on_change=self._on_change
            )

    def published(self) -> dict[str, int]:
        """Return the last published input of each symbol."""
        return {symbol: one.seq for symbol, one in self._channels.items()}

    async def _beat(self) -> None:
        commands = [
            command
            for one in self._channels.values()
            if one.texts is not None
            for command in one.heartbeats()
        ]
        if commands:
            await self._send(commands)

    async def _send(self, commands: list[bytes]) -> None:
        succeeded(await self._link.exchange_packed(b"".join(commands), len(commands)))

    def _on_change(self, available: bool) -> None:
        self.available = available
