"""Leading a shard, as one of its two engines goes about it: wait, acquire, check, keep, hand over.

    not ready ──▶ waiting ──▶ acquired ──▶ leading ──▶ ended (Fenced, HandedOver, what check raised)
        ready()    lease is free    check()

Both engines of a shard run this. An engine acquires only once it has applied again all that was
committed, so the one that still rebuilds its books does not take the shard from the one that can go
on. (Not all that stands in the streams: more than its ring holds is applied only when somebody
leads.) Between acquiring and leading it looks whether
the server has all that its journal has (``check``); that may take long, so the lease is renewed
beside it. Another server, after a failover, is checked likewise as soon as a renewal has met it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from router.lease import Lease
from router.redis_client import retry_while_away

T = TypeVar("T")

ACQUIRE_INTERVAL_MAX_S = 0.1
"""Between two tries to acquire: so long after its release, and at once after it ran out, a lease
has a new owner."""

RENEWALS_PER_TTL = 3

READY_INTERVAL_S = 0.02
"""Between two looks whether the engine is live."""

logger = logging.getLogger("router")


class Leadership:
    """Whether this engine leads its shard.

    Args:
        lease: not acquired.
        check: compares the server with the journal, and clears it for commits; it may be repeated.
        ready: tells whether the engine has applied all that was committed before its start.

    Attributes:
        is_leading: True from the first check on; it never falls, because whoever loses the lease
            ends.
    """

    def __init__(
        self, lease: Lease, *, check: Callable[[], Awaitable[None]], ready: Callable[[], bool]
    ) -> None:
        self._lease = lease
        self._check = check
        self._ready = ready
        self._leading = asyncio.Event()
        self._renewed = asyncio.Event()
        self._predecessor: str | None = None

    @property
    def is_leading(self) -> bool:
        """Whether outputs are committed by this engine."""
        return self._leading.is_set()

    @property
    def knows_leader(self) -> bool:
        """Whether the shard has, or had, a leader: this engine or another that it has met."""
        return self.is_leading or self._predecessor is not None

    async def wait_until_leading(self) -> None:
        """Wait until ``is_leading``, for ever if need be."""
        await self._leading.wait()

    async def keep(self) -> None:
        """Acquire the lease when it is free, and keep it; returns never.

        Waits while Redis is away or has no memory.

        Raises:
            Fenced: another engine has acquired it.
            HandedOver: an operator wants another engine to lead; the lease holds for its TTL yet.
            RouterError: what ``check`` raises: the server lacks what the journal has.
        """
        await self._acquire()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew())
                tasks.create_task(self._check_servers())
        except BaseExceptionGroup as group:
            # The first one stopped the other.
            raise group.exceptions[0] from group

    async def _acquire(self) -> None:
        while True:
            wait_s = READY_INTERVAL_S
            if self._ready():
                held = await self._when_possible(self._lease.try_acquire)
                if held is None:
                    return
                self._predecessor = held.owner
                wait_s = min(held.remaining_ms / 1_000, ACQUIRE_INTERVAL_MAX_S)
            await asyncio.sleep(wait_s)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease.ttl_ms / 1_000 / RENEWALS_PER_TTL)
            await self._when_possible(self._lease.renew)
            self._renewed.set()

    async def _check_servers(self) -> None:
        checked = None
        while True:
            server = self._lease.run_id
            if server != checked:
                await self._when_possible(self._check)
                checked = server
                if not self.is_leading:
                    self._announce()
                self._leading.set()
            await self._renewed.wait()
            self._renewed.clear()

    def _announce(self) -> None:
        if self._predecessor is None:
            logger.info("Leads, epoch %d", self._lease.epoch)
        else:
            # A warning, because `up` shows it: the shard has another leader now.
            logger.warning("Leads, epoch %d, after %s", self._lease.epoch, self._predecessor)

    async def _when_possible(self, attempt: Callable[[], Awaitable[T]]) -> T:
        what = f"lease of {self._lease.owner}"
        return await retry_while_away(attempt, what=what, out_of_memory_too=True)
