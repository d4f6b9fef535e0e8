"""What Redis keeps, and the commands on it that the project uses. Errors carry Redis' texts.

A stream remembers what has been trimmed off it, for the checkers. Ids are dense, ``n-0``, as all
ids of the project are; another id is a mistake.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

Reply = Any
"""bytes, int, None, a list of replies, a Status or a ReplyFailure."""

_INT64_MAX = (1 << 63) - 1


class ReplyFailure(Exception):
    """An error reply."""


class Status(str):
    """A reply such as OK."""


OK = Status("OK")
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class Stream:
    """Entries by number; ``history`` keeps the trimmed ones too."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.fields: list[list[bytes]] = []
        self.history: list[tuple[int, list[bytes]]] = []

    @property
    def last(self) -> int:
        """Return the number of the last entry ever added."""
        return self.history[-1][0] if self.history else 0

    def add(self, number: int, fields: list[bytes]) -> None:
        """Append an entry."""
        if number <= self.last:
            raise ReplyFailure(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item"
            )
        self.numbers.append(number)
        self.fields.append(fields)
        self.history.append((number, fields))

    def between(self, first: int, last: int | None, count: int | None) -> list[list[Any]]:
        """Return the entries from first to last, at most count."""
        start = bisect_left(self.numbers, first)
        end = len(self.numbers) if last is None else bisect_left(self.numbers, last + 1)
        if count is not None:
            end = min(end, start + count)
        return [[b"%d-0" % self.numbers[i], self.fields[i]] for i in range(start, end)]

    def trim(self, minimum: int) -> int:
        """Remove the entries below a number; return how many."""
        count = bisect_left(self.numbers, minimum)
        del self.numbers[:count], self.fields[:count]
        return count


def number_of(entry_id: bytes) -> int:
    """Return n of ``n-0`` or ``n``."""
    number, _, rest = entry_id.partition(b"-")
    assert rest in (b"", b"0"), f"the project's ids are dense: {entry_id!r}"
    return int(number)


class Database:
    """One numbered database: key → bytes, dict (hash), Stream, or SortedSet."""

    def __init__(self) -> None:
        self.values: dict[bytes, Any] = {}
        self.expiry_s: dict[bytes, float] = {}

    def stream(self, key: bytes) -> Stream:
        """Return a stream, empty where there is none."""
        found = self.values.get(key)
        return found if found is not None else Stream()


class SortedSet(dict[bytes, float]):
    """member → score."""

    def ordered(self) -> list[bytes]:
        """Return the members by score."""
        return sorted(self, key=lambda member: (self[member], member))


WRITES = frozenset(b"SET XADD HSET HSETNX HINCRBY ZADD INCR".split())
"""Commands that are refused when there is no memory (flag denyoom)."""


class Store:
    """The databases, and a command for each method below; names are in lower case.

    Args:
        now_us: the server's clock.

    Attributes:
        touched: streams that got an entry since they were looked at: (database, key).
        balance_moves: (account key, field) → sum, of HINCRBY on balances since it was looked at.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self.databases = [Database() for _ in range(64)]
        self.touched: dict[tuple[int, bytes], None] = {}
        self.balance_moves: dict[tuple[bytes, bytes], int] = {}
        self._now_us = now_us

    def run(self, db: int, args: Sequence[bytes]) -> Reply:
        """Carry out a command.

        Raises:
            ReplyFailure: it is refused.
        """
        name = args[0].decode().lower()
        method = getattr(self, f"_{name}", None)
        assert method is not None, f"the simulation lacks the command {args[0]!r}"
        self._drop_expired(db)
        return method(db, *args[1:])

    def key(self, db: int, key: str) -> Any:
        """Return a value to look at."""
        return self.databases[db].values.get(key.encode())

    def _drop_expired(self, db: int) -> None:
        database = self.databases[db]
        if database.expiry_s:
            now_s = self._now_us() / 1e6
            for key in [one for one, at_s in database.expiry_s.items() if at_s <= now_s]:
                del database.expiry_s[key]
                database.values.pop(key, None)

    def _get_typed(self, db: int, key: bytes, kind: type, *, make: bool = False) -> Any:
        values = self.databases[db].values
        found = values.get(key)
        if found is None:
            found = kind()
            if make:
                values[key] = found
        elif type(found) is not kind:
            raise ReplyFailure(WRONG_TYPE)
        return found

    # ------------------------------------------------------------ keys and strings

    def _time(self, db: int) -> Reply:
        seconds, us = divmod(self._now_us(), 1_000_000)
        return [b"%d" % seconds, b"%d" % us]

    def _get(self, db: int, key: bytes) -> Reply:
        if key not in self.databases[db].values:
            return None
        return self._get_typed(db, key, bytes)

    def _mget(self, db: int, *keys: bytes) -> Reply:
        return [self._get(db, key) for key in keys]

    def _set(self, db: int, key: bytes, value: bytes, *options: bytes) -> Reply:
        database = self.databases[db]
        database.values[key] = value
        database.expiry_s.pop(key, None)
        if options:
            assert options[0] == b"EX" and len(options) == 2, f"the simulation lacks {options}"
            database.expiry_s[key] = self._now_us() / 1e6 + int(options[1])
        return OK

    def _incr(self, db: int, key: bytes) -> Reply:
        value = int(self._get(db, key) or 0) + 1
        self.databases[db].values[key] = b"%d" % value
        return value

    def _exists(self, db: int, *keys: bytes) -> Reply:
        return sum(key in self.databases[db].values for key in keys)

    def _del(self, db: int, *keys: bytes) -> Reply:
        return sum(self.databases[db].values.pop(key, None) is not None for key in keys)

    _unlink = _del

    def _expire(self, db: int, key: bytes, seconds: bytes) -> Reply:
        database = self.databases[db]
        if key not in database.values:
            return 0
        database.expiry_s[key] = self._now_us() / 1e6 + int(seconds)
        return 1

    def _persist(self, db: int, key: bytes) -> Reply:
        return int(self.databases[db].expiry_s.pop(key, None) is not None)

    def _scan(self, db: int, cursor: bytes, *options: bytes) -> Reply:
        pairs = dict(zip(options[::2], options[1::2], strict=True))
        pattern = pairs.get(b"MATCH", b"*").decode()
        found = [key for key in self.databases[db].values if fnmatchcase(key.decode(), pattern)]
        return [b"0", found]

    # ------------------------------------------------------------ hashes

    def _hget(self, db: int, key: bytes, field: bytes) -> Reply:
        return self._get_typed(db, key, dict).get(field)

    def _hmget(self, db: int, key: bytes, *fields: bytes) -> Reply:
        found = self._get_typed(db, key, dict)
        return [found.get(field) for field in fields]

    def _hgetall(self, db: int, key: bytes) -> Reply:
        return [part for pair in self._get_typed(db, key, dict).items() for part in pair]

    def _hkeys(self, db: int, key: bytes) -> Reply:
        return list(self._get_typed(db, key, dict))

    def _hlen(self, db: int, key: bytes) -> Reply:
        return len(self._get_typed(db, key, dict))

    def _hexists(self, db: int, key: bytes, field: bytes) -> Reply:
        return int(field in self._get_typed(db, key, dict))

    def _hset(self, db: int, key: bytes, *pairs: bytes) -> Reply:
        if not pairs or len(pairs) % 2:
            raise ReplyFailure("ERR wrong number of arguments for 'hset' command")
        found = self._get_typed(db, key, dict, make=True)
        before = len(found)
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(found) - before

    def _hsetnx(self, db: int, key: bytes, field: bytes, value: bytes) -> Reply:
        found = self._get_typed(db, key, dict, make=True)
        return int(found.setdefault(field, value) is value)

    def _hdel(self, db: int, key: bytes, *fields: bytes) -> Reply:
        found = self._get_typed(db, key, dict)
        count = sum(found.pop(field, None) is not None for field in fields)
        if not found:
            self.databases[db].values.pop(key, None)
        return count

    def _hincrby(self, db: int, key: bytes, field: bytes, amount: bytes) -> Reply:
        found = self._get_typed(db, key, dict, make=True)
        moved = int(amount)
        value = int(found.get(field, 0)) + moved
        if abs(value) > _INT64_MAX:
            raise ReplyFailure("ERR increment or decrement would overflow")
        found[field] = b"%d" % value
        if key.startswith(b"bal:"):
            where = key, field
            self.balance_moves[where] = self.balance_moves.get(where, 0) + moved
        return value

    # ------------------------------------------------------------ streams

    def _xadd(self, db: int, key: bytes, *rest: bytes) -> Reply:
        minimum = None
        if rest[0] == b"MINID":
            at = 2 if rest[1] in (b"~", b"=") else 1
            minimum, rest = number_of(rest[at]), rest[at + 1 :]
        stream = self._get_typed(db, key, Stream, make=True)
        stream.add(number_of(rest[0]), list(rest[1:]))
        if minimum is not None:
            stream.trim(minimum)
        self.touched[db, key] = None
        return rest[0]

    def _xrange(self, db: int, key: bytes, first: bytes, last: bytes, *count: bytes) -> Reply:
        low = 0 if first == b"-" else number_of(first.removeprefix(b"("))
        low += first.startswith(b"(")
        high = None if last == b"+" else number_of(last)
        limit = int(count[1]) if count else None
        return self._get_typed(db, key, Stream).between(low, high, limit)

    def _xrevrange(self, db: int, key: bytes, last: bytes, first: bytes, *count: bytes) -> Reply:
        found = self._xrange(db, key, first, last)
        return found[::-1][: int(count[1])] if count else found[::-1]

    def _xlen(self, db: int, key: bytes) -> Reply:
        return len(self._get_typed(db, key, Stream).numbers)

    def _xtrim(self, db: int, key: bytes, how: bytes, *rest: bytes) -> Reply:
        assert how == b"MINID", "streams are trimmed by MINID"
        minimum = rest[1] if rest[0] in (b"~", b"=") else rest[0]
        return self._get_typed(db, key, Stream).trim(number_of(minimum))

    def read_streams(
        self, db: int, keys: Sequence[bytes], ids: Sequence[int], count: int | None
    ) -> Reply:
        """Return what XREAD finds behind each id, or None."""
        found = []
        for key, after in zip(keys, ids, strict=True):
            entries = self._get_typed(db, key, Stream).between(after + 1, None, count)
            if entries:
                found.append([key, entries])
        return found or None

    # ------------------------------------------------------------ sorted sets

    def _zadd(self, db: int, key: bytes, score: bytes, member: bytes) -> Reply:
        found = self._get_typed(db, key, SortedSet, make=True)
        is_new = member not in found
        found[member] = float(score)
        return int(is_new)

    def _zrem(self, db: int, key: bytes, member: bytes) -> Reply:
        return int(self._get_typed(db, key, SortedSet).pop(member, None) is not None)

    def _zscore(self, db: int, key: bytes, member: bytes) -> Reply:
        score = self._get_typed(db, key, SortedSet).get(member)
        return None if score is None else _text(score)

    def _zrange(self, db: int, key: bytes, first: bytes, last: bytes, option: bytes = b"") -> Reply:
        found = self._get_typed(db, key, SortedSet)
        ordered = found.ordered()
        members = ordered[_slice(int(first), int(last), len(ordered))]
        if not option:
            return members
        assert option == b"WITHSCORES", option
        return [one for member in members for one in (member, _text(found[member]))]

    def _zremrangebyscore(self, db: int, key: bytes, low: bytes, high: bytes) -> Reply:
        found = self._get_typed(db, key, SortedSet)
        gone = [one for one, score in found.items() if float(low) <= score <= float(high)]
        for member in gone:
            del found[member]
        return len(gone)

    def _zremrangebyrank(self, db: int, key: bytes, first: bytes, last: bytes) -> Reply:
        found = self._get_typed(db, key, SortedSet)
        ordered = found.ordered()
        gone = ordered[_slice(int(first), int(last), len(ordered))]
        for member in gone:
            del found[member]
        return len(gone)


def _text(score: float) -> bytes:
    return b"%.17g" % score


def _slice(first: int, last: int, length: int) -> slice:
    first = max(0, first + length) if first < 0 else first
    last = last + length if last < 0 else last
    return slice(first, max(first, last + 1))
