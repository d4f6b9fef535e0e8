"""Inputs that an operator has engines pass over: ``skips:{symbol}``, beside the stream.

An engine reads them before it reads the streams, and again before it leads (``check_skips``). They
stay there for ever, because every replay must pass over the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from engine.commands import Command, DefineSymbol, decode_command
from engine.errors import DecodeError
from engine.limits import SKIP_REASON_LENGTH_MAX
from router import keys
from router.dense_ids import last_entry, last_number
from router.errors import SkipRefused, SkipsChanged
from router.homes import Home, read_home, read_settled
from router.redis_client import RedisLink
from router.scripts import Script

_SKIP = Script("skip")

Skips = dict[str, dict[int, str]]
"""Symbol → seq → reason; a symbol without any is there too."""


class Skippable(msgspec.Struct, frozen=True):
    """An input that may be skipped, as it stands in its stream.

    Attributes:
        home: of its symbol.
        seq: its number.
        payload: its bytes.
        command: what they say; None where they are no command.
        settled: the last seq of the symbol that is settled.
        last: the last seq of its stream.
    """

    home: Home
    seq: int
    payload: bytes
    command: Command | None
    settled: int
    last: int


async def read_skips(link: RedisLink, symbols: Iterable[str]) -> Skips:
    """Return what is to be passed over in each of the symbols' streams.

    Args:
        link: the shard's database.

    Raises:
        RedisUnavailable: no reply.
    """
    names = list(symbols)
    found = await link.pipeline([("HGETALL", keys.skips(symbol)) for symbol in names])
    return {symbol: _parse(flat) for symbol, flat in zip(names, found, strict=True)}


def _parse(flat: list[bytes]) -> dict[int, str]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {int(seq): text.decode().partition(" ")[2] for seq, text in pairs}


async def check_skips(link: RedisLink, known: Mapping[str, Mapping[int, str]]) -> None:
    """Let an engine lead only if it knows every skip: to be called once it has the lease.

    Until then it may have read the streams without one that has been made since it started.

    Args:
        link: the shard's database.
        known: what ``read_skips`` gave when the engine started.

    Raises:
        SkipsChanged: there are others now; the engine starts again.
        RedisUnavailable: no reply.
    """
    now = await read_skips(link, known)
    changed = [symbol for symbol in known if now[symbol] != known[symbol]]
    if changed:
        raise SkipsChanged(f"{', '.join(changed)}: inputs were skipped since this engine started")


def check_reason(reason: str) -> None:
    """Refuse a reason that cannot stand in a FIX message.

    Raises:
        SkipRefused: it is empty, too long, or not one line of text.
    """
    if not reason.strip():
        raise SkipRefused("reason: it is empty")
    if len(reason) > SKIP_REASON_LENGTH_MAX:
        text = f"expected at most {SKIP_REASON_LENGTH_MAX} characters, received {len(reason)}"
        raise SkipRefused(f"reason: {text}")
    if not reason.isprintable():
        raise SkipRefused("reason: expected one line of printable characters")


async def find_skippable(link: RedisLink, symbol: str, seq: int) -> Skippable:
    """Return an input that may be skipped.

    Args:
        link: accounts database.
        seq: its number, as the engine has named it.

    Raises:
        SkipRefused: there is no such symbol or input, it is settled already, or it defines the
            symbol.
        RedisUnavailable: no reply.
    """
    home = await read_home(link, symbol)
    if home is None:
        raise SkipRefused(f"{symbol}: there is no such symbol")
    settled = (await read_settled(link, (symbol,)))[symbol]
    if seq <= settled:
        raise SkipRefused(_settled_text(symbol, seq, settled))
    key = keys.orders(symbol)
    async with link.sibling(home.db) as shard_link:
        found, end = await shard_link.pipeline(
            [("XRANGE", key, f"{seq}-0", f"{seq}-0"), last_entry(key)]
        )
    last = last_number(end)
    if not found:
        raise SkipRefused(f"{symbol} seq {seq}: the stream ends at {last}")
    payload = found[0][1][1]
    try:
        command = decode_command(payload)
    except DecodeError:
        command = None
    if isinstance(command, DefineSymbol):
        raise SkipRefused(
            f"{symbol} seq {seq}: it defines version {command.rules.version} of the symbol's rules,"
            " under which orders are admitted already"
        )
    return Skippable(home, seq, payload, command, settled, last)


async def add_skip(link: RedisLink, found: Skippable, reason: str) -> None:
    """Have engines pass over an input from now on, and take the lease from the one that leads.

    Args:
        link: accounts database.
        found: what ``find_skippable`` gave.
        reason: the operator's; the sender is told.

    Raises:
        SkipRefused: the reason is none; the input was settled meanwhile, or is not the next to be
            settled; it is to be passed over already.
        RedisUnavailable: no reply: whether it was recorded is not known; try again.
        OutOfMemory: nothing was written.
    """
    check_reason(reason)
    home, seq = found.home, found.seq
    symbol = home.symbol
    args = (symbol, home.db, home.incarnation, seq, found.payload, reason)
    reply = await _SKIP.run(link, *args)
    code = reply[0]
    if code == b"OK":
        return
    if code == b"SETTLED":
        raise SkipRefused(_settled_text(symbol, seq, reply[1]))
    if code == b"SKIPPED":
        raise SkipRefused(f"{symbol} seq {seq}: it is to be skipped already")
    if code == b"EARLY":
        text = f"settled is {reply[1]}: an engine stops at {reply[1] + 1} or nowhere yet"
        raise SkipRefused(f"{symbol} seq {seq}: {text}")
    assert code in (b"HOME", b"ENTRY"), f"Invariant: a known answer, not {code!r}"
    raise SkipRefused(f"{symbol} seq {seq}: the stream is not the one that was looked at")


def _settled_text(symbol: str, seq: int, settled: int) -> str:
    return f"{symbol} seq {seq}: settled already, up to {settled}: what has happened stays"
