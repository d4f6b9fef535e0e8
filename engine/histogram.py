"""A latency histogram of integer nanoseconds, within 1.6 % at any size. Pure.

Theory. Buckets are linear within each power of two: values below 128 have a bucket each, and above
that every octave has 64 buckets. With `shift = bit_length − 7` (at least 0) the bucket of a value
is `shift × 64 + (value >> shift)`: the second term runs through 64…127 within an octave, so octaves
follow each other without a gap, and a bucket is at most 1/64 of its values wide.

Source: HdrHistogram, with its precision fixed.
"""

from __future__ import annotations

import msgspec

_OCTAVE_BITS = 6
_LINEAR_BITS = _OCTAVE_BITS + 1
_VALUE_BITS_MAX = 63
_BUCKETS = (_VALUE_BITS_MAX - _LINEAR_BITS + 2) << _OCTAVE_BITS
_VALUE_MAX = (1 << _VALUE_BITS_MAX) - 1


class LatencySummary(msgspec.Struct, frozen=True):
    """The figures that are reported of a histogram, in nanoseconds; all 0 when it is empty."""

    count: int
    mean_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


class Histogram:
    """Counts of durations; about 30 kB, whatever is recorded.

    Attributes:
        count: Durations recorded.
        total_ns: Their sum.
        max_ns: The longest, exactly; 0 when there is none.
    """

    __slots__ = ("_counts", "count", "max_ns", "total_ns")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0

    def record(self, duration_ns: int, count: int = 1) -> None:
        """Count a duration `count` times.

        Args:
            duration_ns: Nanoseconds. A negative one (two clocks that disagree) counts as 0, and one
                beyond 2^63 − 1 (292 years) as that.
            count: How often; a batch whose members share one duration is one call.
        """
        if not 0 <= duration_ns <= _VALUE_MAX:
            duration_ns = 0 if duration_ns < 0 else _VALUE_MAX
        shift = duration_ns.bit_length() - _LINEAR_BITS
        if shift < 0:
            shift = 0
        self._counts[(shift << _OCTAVE_BITS) + (duration_ns >> shift)] += count
        self.count += count
        self.total_ns += duration_ns * count
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns

    def merge(self, other: Histogram) -> None:
        """Count all durations of `other` here too."""
        self._counts = [mine + its for mine, its in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.total_ns += other.total_ns
        self.max_ns = max(self.max_ns, other.max_ns)

    def quantile_ns(self, part: int, whole: int = 100) -> int:
        """Return a duration that `part` of `whole` durations do not exceed.

        It is the upper end of the bucket in which that duration lies, or the maximum if that is
        less: never too short, and at most 1.6 % too long.

        Args:
            part: 50 for the median, 99 for p99; with `whole` 1000, 999 for p99.9.
            whole: What `part` is counted in.

        Raises:
            ValueError: `part` is not in 0…`whole`.
        """
        if not 0 <= part <= whole:
            raise ValueError(f"quantile {part} of {whole}")
        # The rank is rounded up: of 10 durations, p99 is the tenth. Rank 0 is the shortest.
        rank = max(1, -(-self.count * part // whole))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_bucket_end(bucket), self.max_ns)
        return 0

    def summary(self) -> LatencySummary:
        """Return the figures that are reported."""
        return LatencySummary(
            count=self.count,
            mean_ns=self.total_ns // self.count if self.count else 0,
            p50_ns=self.quantile_ns(50),
            p90_ns=self.quantile_ns(90),
            p99_ns=self.quantile_ns(99),
            p999_ns=self.quantile_ns(999, 1000),
            max_ns=self.max_ns,
        )


def _bucket_end(bucket: int) -> int:
    """Return the longest duration that falls into `bucket`."""
    shift = max(0, (bucket >> _OCTAVE_BITS) - 1)
    return ((bucket - (shift << _OCTAVE_BITS) + 1) << shift) - 1
