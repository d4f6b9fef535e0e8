"""Redis in memory: the wire, transactions, pub/sub, blocking reads and the project's Lua scripts.

The scripts are those of ``router/scripts``, run by a Lua 5.1 as in Redis; only what they call is
simulated. All that was answered survives a restart (appendfsync always). A request that is lost may
have been carried out, or not, or a pipeline's beginning of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hiredis
import msgspec
from lupa import lua51

from tests.simulation.clock import VirtualLoop
from tests.simulation.network import Endpoint, Network
from tests.simulation.redis_store import OK, WRITES, Reply, ReplyFailure, Status, Store, number_of

_LUA = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
_COMPILED: dict[bytes, Any] = {}
_OOM = "OOM command not allowed when used memory > 'maxmemory'."

ScriptHook = Callable[[str, Sequence[bytes], Reply], None]
"""Told name, arguments and reply of each script that has run."""

_SCRIPTS = {
    path.stem: path.read_bytes()
    for path in sorted((Path(__file__).parents[2] / "router" / "scripts").glob("*.lua"))
}


class RedisServer:
    """One server.

    Args:
        loop: the world's.
        network: where it listens.
        port: on which.
        fate: asked what becomes of each request of n commands: None, or the number of its commands
            that are carried out before the connection ends.

    Attributes:
        store: the data.
        is_up: whether it answers.
        has_memory: whether writes are taken.
        run_id: new at each start.
        on_script: see ScriptHook.
        change_script: gives the source to run instead of one; see breakages.py.
        drop_published: tells whether to keep a message from a subscriber; likewise.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        network: Network,
        port: int,
        *,
        fate: Callable[[Endpoint, int], int | None],
    ) -> None:
        self.loop = loop
        self.network = network
        self.store = Store(lambda: loop.time_ns() // 1_000)
        self.is_up = True
        self.has_memory = True
        self.starts = 1
        self.on_script: ScriptHook = lambda name, args, reply: None
        self.change_script: Callable[[str, bytes], bytes] = lambda name, source: source
        self.connections: dict[Connection, None] = {}
        self.fate = fate
        self._port = port
        self._known: dict[bytes, tuple[str, Any]] = {}
        self._script_db = 0
        self._script_wrote = False
        self.drop_published: Callable[[bytes], bool] = lambda channel: False
        # One Lua per process: worlds of one process follow each other.
        scope = _LUA.globals()
        scope[b"redis"] = _LUA.table_from({b"call": self._call, b"pcall": self._try})
        scope[b"cmsgpack"] = _LUA.table_from({b"unpack": _unpack, b"pack": _pack})
        network.listen(lambda: Connection(self), port)

    @property
    def run_id(self) -> str:
        """Return the id of this life of the server."""
        return f"{self.starts:040x}"

    def history(self, db: int, key: str) -> list[tuple[int, list[bytes]]]:
        """Return all that was ever added to a stream, trimmed or not."""
        return self.store.databases[db].stream(key.encode()).history

    def stop(self) -> None:
        """Die: connections end; what was answered stays."""
        self.is_up = False
        self.network.listeners[self._port].close()
        for connection in list(self.connections):
            self.network.cut(connection.endpoint)

    def start(self) -> None:
        """Come back, without the scripts that were loaded."""
        self.is_up = True
        self.starts += 1
        self._known.clear()
        self.network.listen(lambda: Connection(self), self._port)

    # ------------------------------------------------------------ commands

    def run(self, db: int, args: Sequence[bytes]) -> Reply:
        """Carry out a command that is not about the connection itself.

        Raises:
            ReplyFailure: it is refused.
        """
        name = args[0]
        if name == b"EVALSHA":
            return self._run_script(db, args[1], args[3:])
        if name == b"SCRIPT":
            assert args[1] == b"LOAD", "scripts are loaded"
            digest = hashlib.sha1(args[2]).hexdigest().encode()
            # What stands before a script are functions that it shares with others.
            script = next(one for one, text in _SCRIPTS.items() if args[2].endswith(text))
            self._known[digest] = script, _compiled(self.change_script(script, args[2]))
            return digest
        if name == b"PUBLISH":
            return self.publish(args[1], args[2])
        if name == b"INFO":
            used = 2 if self.has_memory else 99
            text = f"run_id:{self.run_id}\r\nused_memory:{used}\r\nmaxmemory:100\r\n"
            return (text + "role:master\r\nconnected_slaves:0\r\n").encode()
        if name == b"CONFIG":
            return [args[2], b"100"]
        if name in WRITES and not self.has_memory:
            raise ReplyFailure(_OOM)
        return self.store.run(db, args)

    def publish(self, channel: bytes, data: bytes) -> int:
        """Send a message to all subscribers; some may be lost where a breakage says so."""
        listening = [one for one in self.connections if channel in one.channels]
        for connection in listening:
            if not self.drop_published(channel):
                connection.reply([b"message", channel, data])
        return len(listening)

    def wake_blocked(self) -> None:
        """Answer blocked reads of streams that got entries."""
        touched, self.store.touched = self.store.touched, {}
        if touched:
            for connection in list(self.connections):
                connection.try_blocked(touched)

    # ------------------------------------------------------------ scripts

    def _run_script(self, db: int, digest: bytes, args: Sequence[bytes]) -> Reply:
        name, script = self._known.get(digest, ("", None))
        if script is None:
            raise ReplyFailure("NOSCRIPT No matching script. Please use EVAL.")
        self._script_db, self._script_wrote = db, False
        _LUA.globals()[b"ARGV"] = _LUA.table_from(args)
        try:
            reply = _from_lua(script())
        except ReplyFailure as error:
            raise ReplyFailure(f"ERR Error running script: -{error}") from error
        self.on_script(name, args, reply)
        return reply

    def _call(self, *args: Any) -> Any:
        command = [one if type(one) is bytes else _text(one) for one in args]
        name = command[0] = command[0].upper()
        if name == b"SELECT":
            self._script_db = int(command[1])
            return _LUA.table_from({b"ok": b"OK"})
        if name in WRITES and not self.has_memory and not self._script_wrote:
            raise ReplyFailure(_OOM)
        reply = (
            self.publish(command[1], command[2])
            if name == b"PUBLISH"
            else self.store.run(self._script_db, command)
        )
        self._script_wrote = self._script_wrote or name in WRITES
        return _to_lua(reply)

    def _try(self, *args: Any) -> Any:
        try:
            return self._call(*args)
        except ReplyFailure as error:
            return _LUA.table_from({b"err": str(error).encode()})


class Connection:
    """One client's connection to the server, as a protocol."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.endpoint: Endpoint
        self.channels: dict[bytes, None] = {}
        self._db = 0
        self._reader = hiredis.Reader()
        self._queued: list[list[bytes]] | None = None
        self._blocked: tuple[list[bytes], list[int], int | None] | None = None
        self._timer: Any = None

    def connection_made(self, transport: Any) -> None:
        """Begin (asyncio.Protocol)."""
        self.endpoint = transport
        self.server.connections[self] = None
        if not self.server.is_up:
            self.server.network.cut(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End (asyncio.Protocol)."""
        self.server.connections.pop(self, None)
        self._unblock()

    def data_received(self, data: bytes) -> None:
        """Carry out a request, or as much of it as the seed says (asyncio.Protocol)."""
        if not self.server.is_up:
            return
        self._reader.feed(data)
        commands = []
        while (command := self._reader.gets()) is not False:
            commands.append(command)
        allowed = self.server.fate(self.endpoint, len(commands))
        out = bytearray()
        for command in commands[:allowed]:
            encode_reply(self._run(command), out)
        self.server.wake_blocked()
        if allowed is not None:
            self.server.network.cut(self.endpoint)
        elif out:
            self.endpoint.write(bytes(out))

    def reply(self, reply: Reply) -> None:
        """Send one reply or push message."""
        out = bytearray()
        encode_reply(reply, out)
        self.endpoint.write(bytes(out))

    def _run(self, command: list[bytes]) -> Reply:
        try:
            return self._dispatch(command)
        except ReplyFailure as error:
            return error

    def _dispatch(self, command: list[bytes]) -> Reply:
        name = command[0] = command[0].upper()
        if self._queued is not None and name != b"EXEC":
            self._queued.append(command)
            return Status("QUEUED")
        if name == b"SELECT":
            self._db = int(command[1])
            return OK
        if name == b"CLIENT":
            return OK
        if name == b"MULTI":
            self._queued = []
            return OK
        if name == b"EXEC":
            queued, self._queued = self._queued or [], None
            return [self._run(one) for one in queued]
        if name == b"SUBSCRIBE":
            self.channels.update(dict.fromkeys(command[1:]))
            return Pushes([b"subscribe", one, n] for n, one in enumerate(command[1:], 1))
        if name == b"XREAD":
            return self._read(command)
        return self.server.run(self._db, command)

    def _read(self, command: list[bytes]) -> Reply:
        at = command.index(b"STREAMS")
        options = dict(zip(command[1:at:2], command[2:at:2], strict=True))
        names = command[at + 1 :]
        keys, ids = names[: len(names) // 2], [number_of(one) for one in names[len(names) // 2 :]]
        count = int(options[b"COUNT"]) if b"COUNT" in options else None
        found = self.server.store.read_streams(self._db, keys, ids, count)
        if found is not None or b"BLOCK" not in options:
            return found
        self._blocked = keys, ids, count
        delay_s = int(options[b"BLOCK"]) / 1_000
        self._timer = self.server.loop.call_later(delay_s, self._block_over)
        return NOTHING

    def try_blocked(self, touched: dict[tuple[int, bytes], None]) -> None:
        """Answer the blocked read, if one of its streams got an entry."""
        if self._blocked is None or not any((self._db, key) in touched for key in self._blocked[0]):
            return
        found = self.server.store.read_streams(self._db, *self._blocked)
        if found is not None:
            self._unblock()
            self.reply(found)

    def _block_over(self) -> None:
        self._unblock()
        self.endpoint.write(b"*-1\r\n")

    def _unblock(self) -> None:
        self._blocked = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Pushes(list[Any]):
    """Several replies to one command."""


NOTHING = Pushes()
"""No reply yet."""


def encode_reply(reply: Reply, out: bytearray) -> None:
    """Append a reply as RESP 2."""
    kind = type(reply)
    if kind is bytes:
        out += b"$%d\r\n%b\r\n" % (len(reply), reply)
    elif kind is int:
        out += b":%d\r\n" % reply
    elif reply is None:
        out += b"$-1\r\n"
    elif kind is list:
        out += b"*%d\r\n" % len(reply)
        for one in reply:
            encode_reply(one, out)
    elif kind is Status:
        out += b"+%b\r\n" % reply.encode()
    elif kind is Pushes:
        for one in reply:
            encode_reply(one, out)
    else:
        out += b"-%b\r\n" % str(reply).encode()


def _compiled(source: bytes) -> Any:
    script = _COMPILED.get(source)
    if script is None:
        script = _COMPILED[source] = _LUA.compile(source)
    return script


def _unpack(data: bytes) -> Any:
    values = msgspec.msgpack.decode(data)
    return _LUA.table_from([one.encode() if type(one) is str else one for one in values])


def _pack(texts: Any) -> bytes:
    """Encode a list of texts: nothing else is packed by scripts."""
    return msgspec.msgpack.encode([one.decode() for one in texts.values()])


def _text(number: float) -> bytes:
    return b"%d" % number if number == int(number) else b"%.17g" % number


def _to_lua(reply: Reply) -> Any:
    if reply is None:
        return False
    if type(reply) is list:
        return _LUA.table_from([_to_lua(one) for one in reply])
    if type(reply) is Status:
        return _LUA.table_from({b"ok": reply.encode()})
    return reply


def _from_lua(value: Any) -> Reply:
    kind = type(value)
    if kind is bytes or kind is int or value is None:
        return value
    if kind is float:
        return int(value)
    if kind is bool:
        return 1 if value else None
    error = value[b"err"]
    if error is not None:
        return ReplyFailure(error.decode())
    status = value[b"ok"]
    if status is not None:
        return Status(status.decode())
    replies: list[Reply] = []
    while (one := value[len(replies) + 1]) is not None:
        replies.append(_from_lua(one))
    return replies
