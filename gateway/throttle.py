"""Limits on how often something may happen, in integer nanoseconds. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

NS_PER_SECOND = 1_000_000_000


class TokenBucket:
    """Allow ``count`` events at once, and ``count`` per period in the long run.

    Kept as one number, the time until which past events have used up the rate: exact, and without
    a refill step.

    Args:
        count: events, at least 1.
        period_ns: the period, at least 1 ns per event.

    Source: ITU-T I.371, generic cell rate algorithm (virtual scheduling).
    """

    __slots__ = ("_cost_ns", "_period_ns", "_used_until_ns")

    def __init__(self, count: int, *, period_ns: int) -> None:
        assert 1 <= count <= period_ns, "Invariant: a bucket lets something through"
        self._cost_ns = period_ns // count
        self._period_ns = self._cost_ns * count
        self._used_until_ns = 0

    def take(self, now_ns: int) -> bool:
        """Count one event and return True; when it is too many, return False and count nothing."""
        used_until_ns = max(self._used_until_ns, now_ns) + self._cost_ns
        if used_until_ns - now_ns > self._period_ns:
            return False
        self._used_until_ns = used_until_ns
        return True

    def give_back(self) -> None:
        """Take back one event that was counted."""
        self._used_until_ns -= self._cost_ns


class AttemptTable:
    """A token bucket for each key, such as a network address, with a bound on the keys.

    An attempt is counted when it begins, so that many at once do not slip through, and given back
    when it succeeds: what counts in the long run is failures.

    At ``keys_max`` the key that was used longest ago is forgotten: whoever fills the table gives
    others a fresh start, and locks nobody out.

    Args:
        per_minute: attempts allowed per key, at once and per minute.
        keys_max: keys remembered at once.
    """

    __slots__ = ("_buckets", "_keys_max", "_per_minute")

    def __init__(self, *, per_minute: int, keys_max: int) -> None:
        assert keys_max >= 1, "Invariant: a table remembers somebody"
        self._per_minute = per_minute
        self._keys_max = keys_max
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now_ns: int) -> bool:
        """Count one attempt of a key and return True, or False when the key had too many."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._keys_max:
                self._buckets.popitem(last=False)
            bucket = TokenBucket(self._per_minute, period_ns=60 * NS_PER_SECOND)
            self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        return bucket.take(now_ns)

    def give_back(self, key: Hashable) -> None:
        """Take back one attempt of a key, if the key is still remembered."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.give_back()
