"""One connection to Redis, and what becomes of it when something goes wrong.

Why not a pool: a reply that is not read, a blocked reader or a cancelled call would spoil a shared
connection for the next user. Here each component owns its links. A link has one
call in flight; others wait for it in order. Whatever disturbs a call (time-out, cancellation, lost
connection, a server that has become a replica) closes the connection, and the next call opens a new
one. A link never repeats a call by itself: only its caller knows whether that is safe, and
`retry_while_away` is how it then does so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

import hiredis

from router.errors import OutOfMemory, RedisUnavailable, Uncleared

T = TypeVar("T")
Argument = str | bytes | int

RETRY_DELAY_MIN_MS = 20
RETRY_DELAY_MAX_MS = 1_000
"""Between two tries of a call while Redis is away: doubled from the first to the second."""

# Redis answers, but cannot serve yet or not any more: the same as being away.
_AWAY_CODES = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "MISCONF")

logger = logging.getLogger("router")


def pack_commands(commands: Sequence[tuple[Argument, ...]]) -> bytes:
    """Return commands as they go over the wire."""
    # The stub of pack_command says "a tuple of one".
    pack: Callable[[Any], bytes] = hiredis.pack_command
    return b"".join([pack(command) for command in commands])


class Wire(asyncio.Protocol):
    """The bytes of one connection: feeds the parser and hands out whole replies.

    Args:
        on_reply: called with each reply, an error reply being a hiredis.ReplyError.
        on_lost: called once when the connection has ended.
    """

    def __init__(self, on_reply: Callable[[Any], None], on_lost: Callable[[str], None]) -> None:
        self._reader = hiredis.Reader(notEnoughData=self)
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._forgotten = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand out all replies that are whole now (asyncio.Protocol)."""
        self._reader.feed(data)
        next_reply, on_reply = self._reader.gets, self._on_reply
        while not self._forgotten and (reply := next_reply()) is not self:
            on_reply(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the connection (asyncio.Protocol)."""
        self.transport = None
        if not self._forgotten:
            self._on_lost(str(exc) if exc else "closed by the server")

    def send(self, data: bytes) -> None:
        """Write packed commands.

        Raises:
            RedisUnavailable: the connection has ended.
        """
        if self.transport is None or self.transport.is_closing():
            raise RedisUnavailable("the connection to Redis has ended")
        self.transport.write(data)

    def abort(self) -> None:
        """End the connection at once; neither callback is called any more."""
        self._forgotten = True
        if self.transport is not None:
            self.transport.abort()


async def open_wire(
    url: str, *, on_reply: Callable[[Any], None], on_lost: Callable[[str], None], timeout_ms: int
) -> Wire:
    """Connect to the server of a URL; nothing has been sent yet.

    Raises:
        RedisUnavailable: nobody answers there within the time-out.
        ValueError: the URL is not redis://, rediss:// or unix://.
    """
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()

    def wire() -> Wire:
        return Wire(on_reply, on_lost)

    try:
        async with asyncio.timeout(timeout_ms / 1000):
            if parts.scheme == "unix":
                return (await loop.create_unix_connection(wire, parts.path))[1]
            if parts.scheme not in ("redis", "rediss"):
                raise ValueError(
                    f"expected redis://, rediss:// or unix://, received {parts.scheme}"
                )
            host, port = parts.hostname or "127.0.0.1", parts.port or 6379
            ssl = True if parts.scheme == "rediss" else None
            return (await loop.create_connection(wire, host, port, ssl=ssl))[1]
    except (OSError, TimeoutError) as error:
        raise RedisUnavailable(f"cannot reach Redis at {url_place(url)}: {error}") from error


def greeting(url: str, *, db: int, name: str) -> list[tuple[Argument, ...]]:
    """Return the commands that begin a connection: AUTH if the URL has a password, SELECT, name."""
    parts = urlsplit(url)
    commands: list[tuple[Argument, ...]] = []
    if parts.password:
        user = (unquote(parts.username),) if parts.username else ()
        commands.append(("AUTH", *user, unquote(parts.password)))
    return [*commands, ("SELECT", db), ("CLIENT", "SETNAME", name)]


def parse_run_id(info: bytes) -> str:
    """Return the run id that the answer to INFO server names; empty if it names none."""
    for line in info.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"run_id":
            return value.decode()
    return ""


def translate(error: hiredis.ReplyError) -> Exception:
    """Return the error that an error reply stands for; unknown ones are returned as they are."""
    text = str(error)
    code = text.partition(" ")[0]
    if code in _AWAY_CODES:
        return RedisUnavailable(text)
    # From within a script 6.2 wraps it: "ERR Error running script …: -OOM command not allowed …".
    if code == "OOM" or "-OOM " in text or "OOM command not allowed" in text:
        return OutOfMemory(text)
    if "-MISCONF " in text or _is_demoted(error):
        return RedisUnavailable(text)
    return error


def _is_demoted(error: hiredis.ReplyError) -> bool:
    """Tell whether the server is a replica, which it may have become under the connection."""
    text = str(error)
    return text.startswith("READONLY ") or "-READONLY " in text


def succeeded(replies: list[Any]) -> list[Any]:
    """Return replies of which none is an error.

    Raises:
        RedisUnavailable, OutOfMemory, hiredis.ReplyError: what the first error reply stands for.
    """
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise translate(reply)
    return replies


class RedisLink:
    """One connection to one database, opened by the first call.

    Args:
        url: the server, without a database number.
        db: the database.
        name: shows in CLIENT LIST.
        timeout_ms: longest wait for the replies of a call, and for connecting.

    Attributes:
        run_id: of the server of the present connection, or of the last one while there is none;
            empty before the first. A server has a new one each time it is started.
    """

    def __init__(self, url: str, *, db: int, name: str, timeout_ms: int) -> None:
        self.url = url
        self.db = db
        self.name = name
        self.run_id = ""
        self._timeout_ms = timeout_ms
        self._wire: Wire | None = None
        self._lock = asyncio.Lock()
        self._expected = 0
        self._replies: list[Any] = []
        self._done: asyncio.Future[None] | None = None

    async def call(self, *command: Argument, block_ms: int = 0) -> Any:
        """Send one command and return its reply.

        Args:
            block_ms: how long the command itself may block; added to the time-out.

        Raises:
            RedisUnavailable: no reply; whether the command took effect is not known.
            OutOfMemory: Redis refused it for lack of memory.
            hiredis.ReplyError: any other error reply.
        """
        return (await self.pipeline((command,), block_ms=block_ms))[0]

    async def pipeline(
        self, commands: Sequence[tuple[Argument, ...]], *, block_ms: int = 0
    ) -> list[Any]:
        """Send commands in one write and return their replies in order.

        All of them are carried out, whether or not one is refused.

        Raises:
            RedisUnavailable, OutOfMemory, hiredis.ReplyError: see ``call``; of the first that
            failed.
        """
        return succeeded(await self.exchange(commands, block_ms=block_ms))

    async def exchange(
        self, commands: Sequence[tuple[Argument, ...]], *, block_ms: int = 0
    ) -> list[Any]:
        """Do as ``pipeline`` does, but return error replies as values.

        Raises:
            RedisUnavailable: not all replies came; which commands took effect is not known.
        """
        return await self.exchange_packed(pack_commands(commands), len(commands), block_ms=block_ms)

    async def exchange_packed(self, data: bytes, count: int, *, block_ms: int = 0) -> list[Any]:
        """Do as ``exchange`` does with commands that are packed already.

        Args:
            data: one or more commands as they go over the wire.
            count: how many they are.

        Raises:
            RedisUnavailable: not all replies came; which commands took effect is not known.
        """
        async with self._lock:
            if self._wire is None:
                await self._open()
            return await self._exchange(data, count, self._timeout_ms + block_ms)

    async def exchange_bound(
        self, bind: Callable[[str], Sequence[tuple[Argument, ...]]]
    ) -> list[Any]:
        """Do as ``exchange`` does with commands that name the server which they are sent to.

        Args:
            bind: run id → the commands for that server. They go to it or nowhere: the connection
                stands when this is called.

        Raises:
            RedisUnavailable: not all replies came; which commands took effect is not known.
        """
        async with self._lock:
            if self._wire is None:
                await self._open()
            commands = bind(self.run_id)
            return await self._exchange(pack_commands(commands), len(commands), self._timeout_ms)

    def sibling(self, db: int, *, name: str = "") -> RedisLink:
        """Return a new link to another database of the same server."""
        return RedisLink(self.url, db=db, name=name or self.name, timeout_ms=self._timeout_ms)

    async def __aenter__(self) -> RedisLink:
        """Return the link itself; leaving closes it."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        async with self._lock:
            self._drop()

    async def _open(self) -> None:
        self._wire = await open_wire(
            self.url, on_reply=self._on_reply, on_lost=self._on_lost, timeout_ms=self._timeout_ms
        )
        hello = [*greeting(self.url, db=self.db, name=self.name), ("INFO", "server")]
        replies = await self._exchange(pack_commands(hello), len(hello), self._timeout_ms)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                self._drop()
                raise translate(reply)
        run_id = parse_run_id(replies[-1])
        if not run_id:
            self._drop()
            raise RedisUnavailable("INFO server: the server does not say its run_id")
        self.run_id = run_id

    async def _exchange(self, data: bytes, count: int, timeout_ms: int) -> list[Any]:
        if self._wire is None:
            # It was lost between two exchanges of one call.
            raise RedisUnavailable("the connection to Redis has ended")
        self._replies = []
        self._expected = count
        self._done = asyncio.get_running_loop().create_future()
        try:
            self._wire.send(data)
            async with asyncio.timeout(timeout_ms / 1000):
                await self._done
        except TimeoutError as error:
            self._drop()
            raise RedisUnavailable(f"no reply from Redis within {timeout_ms} ms") from error
        except BaseException:
            self._drop()
            raise
        finally:
            self._done = None
        if any(isinstance(one, hiredis.ReplyError) and _is_demoted(one) for one in self._replies):
            # Whoever leads now is found by connecting anew; this server may keep us for ever.
            self._drop()
        return self._replies

    def _on_reply(self, reply: Any) -> None:
        self._replies.append(reply)
        if len(self._replies) == self._expected and self._done and not self._done.done():
            self._done.set_result(None)

    def _on_lost(self, reason: str) -> None:
        self._wire = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(RedisUnavailable(f"connection to Redis lost: {reason}"))

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abort()


async def scan_keys(link: RedisLink, pattern: str) -> AsyncIterator[str]:
    """Yield every key that matches a glob pattern; one that moves meanwhile may come twice.

    Raises:
        RedisUnavailable: no reply.
    """
    cursor = b"0"
    while True:
        cursor, found = await link.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000)
        for key in found:
            yield key.decode()
        if cursor == b"0":
            return


async def retry_while_away(
    attempt: Callable[[], Awaitable[T]],
    *,
    what: str,
    on_change: Callable[[bool], None] = lambda available: None,
    out_of_memory_too: bool = False,
) -> T:
    """Repeat a call that may be repeated until Redis answers it.

    The wait between two tries doubles up to RETRY_DELAY_MAX_MS; there is no last try: whoever gives
    up cancels. Loss and return are logged once each; that the server is not cleared yet, which it
    is a moment after each start, only when the wait has become the longest.

    Args:
        attempt: idempotent.
        what: names the caller in the log.
        on_change: told False at the first failure and True at the success after one.
        out_of_memory_too: wait for memory as well.
    """
    away = (RedisUnavailable, OutOfMemory) if out_of_memory_too else (RedisUnavailable,)
    delay_ms, told = RETRY_DELAY_MIN_MS, False
    while True:
        try:
            result = await attempt()
        except away as error:
            if delay_ms == RETRY_DELAY_MIN_MS:
                on_change(False)
            if not told and (delay_ms == RETRY_DELAY_MAX_MS or not isinstance(error, Uncleared)):
                logger.warning("%s: Redis is away, trying again: %s", what, error)
                told = True
            await asyncio.sleep(delay_ms / 1000)
            delay_ms = min(2 * delay_ms, RETRY_DELAY_MAX_MS)
            continue
        if told:
            logger.warning("%s: Redis is back", what)
        if delay_ms > RETRY_DELAY_MIN_MS:
            on_change(True)
        return result


def url_place(url: str) -> str:
    """Return where a URL leads, for people and logs: without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}{parts.path}"
