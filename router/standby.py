"""The way out of an engine that may lead or follow: commit, or compare with what was published.

A follower applies the same commands as the leader, so its outputs must be the leader's, byte for
byte. It holds each until the leader has published that input, compares, and lets it go. When it
comes to lead, what it still holds is what the leader did not publish: it commits that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from engine.errors import DecodeError
from engine.events import decode_output
from engine.settlement import Settlement
from router import keys
from router.dense_ids import entry_number
from router.errors import OutputDiffers
from router.redis_client import Argument, RedisLink, retry_while_away

READ_BLOCK_MS = 1_000
"""Longest wait of one read of published outputs; coming to lead ends it at once."""

SHOWN_CHARACTERS_MAX = 1_000
"""Of each version of an output that differs; a CancelAll's may have a million."""

_SHOWN_BEFORE = 100

logger = logging.getLogger("router")


class Leadership(Protocol):
    """Whether this engine leads: router.leadership.Leadership."""

    @property
    def is_leading(self) -> bool:
        """Whether it does; never falls."""

    async def wait_until_leading(self) -> None:
        """Wait until it does."""


class Committer(Protocol):
    """Where a leader's outputs go: router.commit.Committer."""

    async def commit(self, batch: Sequence[Settlement]) -> None:
        """Settle and publish a batch."""


class PublishedOutputs(Protocol):
    """What the leader has published: a PublishedReader."""

    async def read(
        self, positions: Mapping[str, int], *, count: int
    ) -> dict[str, list[tuple[int, bytes]]]:
        """Return outputs behind the positions; see there."""


class PublishedReader:
    """Reads the outputs of a shard's symbols where they are asked for.

    Args:
        link: the shard's database, for nothing else, because reading blocks it.
        block_ms: longest wait of one read.
    """

    def __init__(self, link: RedisLink, *, block_ms: int = READ_BLOCK_MS) -> None:
        self._link = link
        self._block_ms = block_ms

    async def read(
        self, positions: Mapping[str, int], *, count: int
    ) -> dict[str, list[tuple[int, bytes]]]:
        """Return the first outputs behind each position, with their seqs; none if none came.

        Waits while Redis is away. Outputs that have been trimmed away are missing.

        Args:
            positions: symbol → seq.
            count: at most so many per symbol.
        """
        names = {keys.events(symbol).encode(): symbol for symbol in positions}
        ids = [f"{seq}-0" for seq in positions.values()]
        command: list[Argument] = ["XREAD", "COUNT", count]
        command += ["BLOCK", self._block_ms, "STREAMS", *names, *ids]
        reply = await retry_while_away(
            lambda: self._link.call(*command, block_ms=self._block_ms),
            what=f"reader {self._link.name}",
        )
        return {
            names[key]: [(entry_number(entry_id), fields[1]) for entry_id, fields in found]
            for key, found in reply or ()
        }


class RoleCommitter:
    """Commits while the engine leads, and compares while it follows.

    Holds no more than the batch it was given: the engine's ring holds what comes behind it.

    Args:
        committer: for the outputs of a leader.
        leadership: of this engine.
        published: for a follower.
        interval_ms: a follower waits so long before it reads again what the leader had not
            published yet: fewer and larger reads cost it and Redis less.

    Attributes:
        compared: outputs that were the same as the published ones.
        uncompared: outputs whose published ones had been trimmed away; 0 unless this engine was
            behind the writer and market data.
    """

    def __init__(
        self,
        committer: Committer,
        leadership: Leadership,
        published: PublishedOutputs,
        *,
        interval_ms: int = 0,
    ) -> None:
        self._committer = committer
        self._leadership = leadership
        self._published = published
        self._interval_s = interval_ms / 1_000
        self._trimmed: set[str] = set()
        self.compared = 0
        self.uncompared = 0

    async def commit(self, batch: Sequence[Settlement]) -> None:
        """Return when each output of a batch has been compared or committed.

        Waits for the leader, for Redis, and for the end of the lease, as long as that takes.

        Args:
            batch: see ``Committer.commit``.

        Raises:
            OutputDiffers: the leader published other bytes; the message has both versions.
            RouterError: see ``Committer.commit``.
        """
        if not self._leadership.is_leading:
            batch = await self._follow(batch)
        if batch:
            await self._committer.commit(batch)

    def counters(self) -> dict[str, int]:
        """Return the engine's role and what came of it; for the register of processes."""
        return {
            "is_leading": int(self._leadership.is_leading),
            "compared": self.compared,
            "uncompared": self.uncompared,
        }

    async def _follow(self, batch: Sequence[Settlement]) -> list[Settlement]:
        """Compare a batch; return what was not compared when the engine came to lead."""
        waiting: dict[str, deque[Settlement]] = {}
        for one in batch:
            waiting.setdefault(one.symbol, deque()).append(one)
        comparing = asyncio.ensure_future(self._compare(waiting))
        leading = asyncio.ensure_future(self._leadership.wait_until_leading())
        try:
            await asyncio.wait((comparing, leading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leading.cancel()
            comparing.cancel()
            # Until both have ended: a read must not go on beside the next one.
            results = await asyncio.gather(comparing, leading, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]
        firsts = {symbol: outputs[0].seq for symbol, outputs in waiting.items()}
        return [one for one in batch if one.symbol in firsts and one.seq >= firsts[one.symbol]]

    async def _compare(self, waiting: dict[str, deque[Settlement]]) -> None:
        """Take out of ``waiting`` what has been compared, until nothing is left."""
        while waiting:
            found = await self._published.read(
                {symbol: outputs[0].seq - 1 for symbol, outputs in waiting.items()},
                count=max(map(len, waiting.values())),
            )
            for symbol, published in found.items():
                outputs = waiting[symbol]
                for seq, event in published:
                    self._pass_over(outputs, seq)
                    if not outputs:
                        break
                    if outputs[0].event != event:
                        versions = describe_versions(published=event, ours=outputs[0].event)
                        raise OutputDiffers(symbol, seq, versions)
                    outputs.popleft()
                    self.compared += 1
                    self._trimmed.discard(symbol)
                if not outputs:
                    del waiting[symbol]
            if waiting:
                await asyncio.sleep(self._interval_s)

    def _pass_over(self, outputs: deque[Settlement], seq: int) -> None:
        """Take out what cannot be compared any more, because the stream begins at ``seq``."""
        if not outputs or outputs[0].seq >= seq:
            return
        symbol, first = outputs[0].symbol, outputs[0].seq
        while outputs and outputs[0].seq < seq:
            outputs.popleft()
            self.uncompared += 1
        if symbol not in self._trimmed:
            self._trimmed.add(symbol)
            logger.warning(
                "%s: outputs from seq %d to %d were trimmed before they could be compared",
                symbol,
                first,
                seq - 1,
            )


def describe_versions(*, published: bytes, ours: bytes) -> str:
    """Return two encoded outputs as two lines of text, each cut around the first difference."""
    texts = [_readable(published), _readable(ours)]
    same = next(
        (i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts))
    )
    start = max(0, same - _SHOWN_BEFORE) if max(map(len, texts)) > SHOWN_CHARACTERS_MAX else 0
    shown = [_cut(text, start) for text in texts]
    return f"\n  published: {shown[0]}\n  ours:      {shown[1]}"


def _cut(text: str, start: int) -> str:
    end = start + SHOWN_CHARACTERS_MAX
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _readable(output: bytes) -> str:
    try:
        return repr(decode_output(output))
    except DecodeError as error:
        return f"({error})"
