"""The Lua scripts: one file per atomic step in ``scripts/``, each with its contract in its head.

Always called by digest. A server that does not know a script (new, flushed, another master) gets it
loaded, and the call is made again: it did nothing the first time. Scripts answer expected refusals
as values, ``{CODE, details…}``, so that they read the same in Redis 6.2 and 7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import hiredis
import msgspec

from router.redis_client import Argument, RedisLink, translate

pack = msgspec.msgpack.Encoder().encode
"""Packs what a script takes apart by cmsgpack.unpack: flat lists of small ints and text only.

Bytes travel as arguments of their own, because 6.2's cmsgpack knows no binary type."""


_CLEARED = "cleared"


class Script:
    """One script: its text and its digest.

    Args:
        name: the file's name in ``scripts/``, without ``.lua``.
        before: the names of files of functions that the script uses; put before it.
        bound: its last argument is the run id of the server that it is sent to; so is that of all
            scripts behind ``cleared.lua``.
    """

    __slots__ = ("digest", "is_bound", "name", "source")

    def __init__(self, name: str, *, before: Sequence[str] = (), bound: bool = False) -> None:
        self.name = name
        self.is_bound = bound or _CLEARED in before
        self.source = b"".join(script_text(one) for one in (*before, name))
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    async def run(self, link: RedisLink, *args: Argument) -> Any:
        """Run the script on a link and return its reply.

        Raises:
            RedisUnavailable: no reply; whether the script ran is not known.
            OutOfMemory: nothing was written.
        """
        return (await run_scripts(link, ((self, args),)))[0]


def script_text(name: str) -> bytes:
    """Return a file of ``scripts/``, named without ``.lua``."""
    return files("router").joinpath("scripts", f"{name}.lua").read_bytes()


async def run_scripts(
    link: RedisLink, calls: Sequence[tuple[Script, Sequence[Argument]]]
) -> list[Any]:
    """Run scripts one after the other in one write and return their replies.

    If one of them is not known to the server, all are loaded and sent again: with more than one,
    each must be idempotent.

    Raises:
        RedisUnavailable: not all replies came; which scripts ran is not known.
        OutOfMemory: a script was refused, nothing of it was written.
    """
    replies = await _evaluate(link, calls)
    if any(isinstance(r, hiredis.ReplyError) and str(r).startswith("NOSCRIPT") for r in replies):
        await link.pipeline([("SCRIPT", "LOAD", script.source) for script, _ in calls])
        replies = await _evaluate(link, calls)
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise translate(reply)
    return replies


async def _evaluate(
    link: RedisLink, calls: Sequence[tuple[Script, Sequence[Argument]]]
) -> list[Any]:
    if not any(script.is_bound for script, _ in calls):
        return await link.exchange([_command(script, args) for script, args in calls])

    def bind(run_id: str) -> list[tuple[Argument, ...]]:
        return [
            (*_command(script, args), run_id) if script.is_bound else _command(script, args)
            for script, args in calls
        ]

    return await link.exchange_bound(bind)


def _command(script: Script, args: Sequence[Argument]) -> tuple[Argument, ...]:
    return ("EVALSHA", script.digest, 0, *args)
