"""Who leads a shard: a lease in its database, with an epoch that only grows.

Leading is a permission to commit, checked by the commit scripts themselves: an engine that was
stuck and wakes up after another has taken over cannot write anything. So the lease need not be
exact about time; it only has to find out that a leader is dead.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router import keys
from router.errors import Fenced, HandedOver
from router.redis_client import RedisLink
from router.scripts import Script

_LEASE = Script("lease")


class Held(msgspec.Struct, frozen=True):
    """Somebody else leads the shard."""

    owner: str
    remaining_ms: int


class Lease:
    """A shard's lease, as one engine sees it.

    Args:
        link: the shard's database, for nothing else, so that a renewal never waits behind a commit.
        owner: unique to the process, such as ``engine-1:4711:9f3a``.
        ttl_ms: how long it holds without renewal.

    Attributes:
        owner, ttl_ms: as given.
        epoch: of the last acquisition; 0 before.
    """

    def __init__(self, link: RedisLink, *, owner: str, ttl_ms: int) -> None:
        self._link = link
        self.owner = owner
        self.epoch = 0
        self.ttl_ms = ttl_ms

    async def try_acquire(self) -> Held | None:
        """Acquire the lease; return None, or who has it.

        Raises:
            RedisUnavailable, OutOfMemory: trying again is right in any case.
        """
        reply = await self._run("acquire", 0)
        if reply[0] == b"HELD":
            return Held(reply[1].decode(), reply[2])
        self.epoch = reply[1]
        return None

    @property
    def run_id(self) -> str:
        """The run id of the server that answered last; empty before."""
        return self._link.run_id

    async def renew(self) -> None:
        """Prolong the lease by its TTL from now.

        Raises:
            Fenced: another engine has acquired it.
            HandedOver: it was prolonged, but an operator wants another engine to lead.
            RedisUnavailable: no reply.
            OutOfMemory: it was not prolonged.
        """
        reply = await self._run("renew", self.epoch)
        if reply[0] == b"LOST":
            raise Fenced(f"{self.owner} lost the lease of its shard (epoch {self.epoch})")
        if reply[2] == self.epoch:
            raise HandedOver(f"{self.owner} hands its shard over (epoch {self.epoch})")

    async def release(self) -> None:
        """Give the lease up, so that a successor need not wait; does nothing to a lost one.

        Raises:
            RedisUnavailable: no reply; it runs out by itself.
            OutOfMemory: likewise.
        """
        await self._run("release", self.epoch)

    async def _run(self, action: str, epoch: int) -> list[Any]:
        reply: list[Any] = await _LEASE.run(self._link, action, self.owner, epoch, self.ttl_ms)
        return reply


async def ask_to_hand_over(link: RedisLink, epoch: int) -> bool:
    """Ask the leader of an epoch to let another engine lead; return False if it leads no more.

    It notices with its next renewal, releases the lease and ends.

    Args:
        link: the shard's database.

    Raises:
        RedisUnavailable: no reply.
        OutOfMemory: nothing was asked.
    """
    reply: list[Any] = await _LEASE.run(link, "handover", "", epoch, 0)
    return bool(reply[0] == b"OK")


class Leader(msgspec.Struct, frozen=True):
    """Who leads a shard, for operators. ``remaining_ms``: until it counts as dead."""

    owner: str
    epoch: int
    remaining_ms: int


async def read_leader(link: RedisLink) -> Leader | None:
    """Return who leads the shard, or None when nobody does.

    Args:
        link: the shard's database.

    Raises:
        RedisUnavailable: no reply.
    """
    (owner, epoch, until_ms), (seconds, us) = await link.pipeline(
        [("HMGET", keys.LEASE, "owner", "epoch", "until_ms"), ("TIME",)]
    )
    remaining_ms = int(until_ms or 0) - int(seconds) * 1_000 - int(us) // 1_000
    if not owner or remaining_ms <= 0:
        return None
    return Leader(owner.decode(), int(epoch), remaining_ms)
