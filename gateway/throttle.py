"""Limits on how often something may happen, in integer nanoseconds. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

NS_PER_SECOND = 1_000_000_000
_DOUBLINGS_MAX = 30
"""Of a second: beyond every limit that can be set."""


class TokenBucket:
    """Allow ``count`` events at once, and ``count`` per period in the long run.

    Kept as one number, the time until which past events have used up the rate: exact, and without
    a refill step.

    Args:
        count: events, at least 1.
        period_ns: the period, at least 1 ns per event.

    Source: ITU-T I.371, generic cell rate algorithm (virtual scheduling).
    """

    __slots__ = ("_cost_ns", "_count", "_period_ns", "_used_until_ns")

    def __init__(self, count: int, *, period_ns: int) -> None:
        assert 1 <= count <= period_ns, "Invariant: a bucket lets something through"
        self._count = count
        self._cost_ns = period_ns // count
        self._period_ns = self._cost_ns * count
        self._used_until_ns = 0

    def take(self, now_ns: int, events: int = 1) -> bool:
        """Count events that are one and return True; when too many were, count nothing.

        They may go where a single one may, whatever room is left, so that small ones cannot keep
        out a big one for ever; at most as many count as the bucket holds.
        """
        used_until_ns = max(self._used_until_ns, now_ns)
        if used_until_ns + self._cost_ns - now_ns > self._period_ns:
            return False
        self._used_until_ns = used_until_ns + self._cost_ns * min(events, self._count)
        return True


class BackoffTable:
    """Make each key, such as a network address, wait longer after each of its failures.

    The first failures cost nothing, then the wait doubles from one second to ``wait_max_ns``. Only
    what fails lengthens it: an attempt during a wait must not be made, and counts for nothing. For
    each ``wait_max_ns`` that passes besides its waits one failure is forgiven, so that rare
    mistakes never add up.

    At ``keys_max`` the key that failed longest ago is forgotten: whoever fills the table gives
    others a fresh start, and locks nobody out.

    Args:
        failures_free: failures of a key before it has to wait.
        wait_max_ns: the longest wait, at least a second.
        keys_max: keys remembered at once.
    """

    __slots__ = ("_entries", "_failures_free", "_keys_max", "_wait_max_ns")

    def __init__(self, *, failures_free: int, wait_max_ns: int, keys_max: int) -> None:
        assert keys_max >= 1, "Invariant: a table remembers somebody"
        assert wait_max_ns >= NS_PER_SECOND, "Invariant: the first wait is the shortest"
        self._failures_free = failures_free
        self._wait_max_ns = wait_max_ns
        self._keys_max = keys_max
        self._entries: OrderedDict[Hashable, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def wait_ns(self, key: Hashable, now_ns: int) -> int:
        """Return how long a key has still to wait; 0 where it may try."""
        entry = self._entries.get(key)
        return 0 if entry is None else max(0, entry.until_ns - now_ns)

    def fail(self, key: Hashable, now_ns: int) -> None:
        """Count a failure, or an attempt that ``forgive`` or ``clear`` takes back."""
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self._keys_max:
                self._entries.popitem(last=False)
            entry = self._entries[key] = _Failures(now_ns)
        self._entries.move_to_end(key)
        entry.forgive_by(now_ns, self._wait_max_ns)
        entry.count += 1
        doublings = min(entry.count - self._failures_free - 1, _DOUBLINGS_MAX)
        if doublings >= 0:
            entry.until_ns = now_ns + min(NS_PER_SECOND << doublings, self._wait_max_ns)
            entry.since_ns = entry.until_ns

    def forgive(self, key: Hashable) -> None:
        """Take back one failure of a key, and its wait, if the key is still remembered."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.count -= 1
            entry.until_ns = 0

    def clear(self, key: Hashable) -> None:
        """Forget the failures of a key."""
        self._entries.pop(key, None)


class _Failures:
    """Of one key: how many count, from when on one is forgiven, and how long it has to wait."""

    __slots__ = ("count", "since_ns", "until_ns")

    def __init__(self, now_ns: int) -> None:
        self.count = 0
        self.since_ns = now_ns
        self.until_ns = 0

    def forgive_by(self, now_ns: int, period_ns: int) -> None:
        """Forgive one failure for each period that has passed."""
        periods = max(0, now_ns - self.since_ns) // period_ns
        self.count = max(0, self.count - periods)
        self.since_ns = now_ns if not self.count else self.since_ns + periods * period_ns
