"""One session of a real FIX engine: a child process that is told what to do, and tells what came.

Lines to the child: ``connect`` (with fields for the Logon), ``send`` (an application message),
``disconnect`` (log out). Lines from it: ``ready``; ``logon`` and ``logout``, as the engine says;
``in`` and ``out``, each message that the engine took for valid or sent; ``log``, what it warns of;
``stopped``, after a ``disconnect``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.interop.engines import Engine, Login

DEADLINE_S = 20.0
"""For whatever is waited for: a reconnection takes an engine some seconds."""
START_DEADLINE_S = 60.0
"""For the start of an engine's program: node reads hundreds of modules."""

_LINE_BYTES_MAX = 1 << 20
_ADMIN = {"0", "1", "2", "3", "4", "5", "A"}
_REJECT, _BUSINESS_REJECT = "3", "j"

Fields = Sequence[tuple[int, Any]]
"""Tags and values; the value of a repeating group is a list of its entries, each a `Fields`."""


class Mismatch(AssertionError):
    """A client received something else than it should have, or nothing."""


class Message:
    """A message as a client saw it."""

    def __init__(self, pairs: list[list[Any]]) -> None:
        self.pairs = [(int(tag), str(value)) for tag, value in pairs]

    def __getitem__(self, tag: int) -> str:
        """Return the first value of a tag, or the empty string."""
        return next((value for one, value in self.pairs if one == tag), "")

    def all(self, tag: int) -> list[str]:
        """Return all values of a tag, in order: of a group's entries."""
        return [value for one, value in self.pairs if one == tag]

    def entries(self, first: int) -> list[dict[int, str]]:
        """Return the entries of the group with this first tag; the last has all that follows."""
        found: list[dict[int, str]] = []
        for tag, value in self.pairs:
            if tag == first:
                found.append({})
            if found:
                found[-1][tag] = value
        return found

    def matches(self, msg_type: str, tags: dict[int, str]) -> bool:
        """Say whether it has this type and these values."""
        return self[35] == msg_type and all(self[tag] == value for tag, value in tags.items())

    def __repr__(self) -> str:
        return "|".join(f"{tag}={value}" for tag, value in self.pairs)


class Client:
    """One session at one engine.

    Args:
        engine: which.
        login: where, and as whom.
        directory: its own, for settings, store and logs; it outlives the process.

    Attributes:
        received: application messages, in order.
        admin_in, admin_out: session messages.
    """

    def __init__(self, engine: Engine, login: Login, directory: Path) -> None:
        self.login = login
        self.received: list[Message] = []
        self.admin_in: list[Message] = []
        self.admin_out: list[Message] = []
        self.app_out: list[Message] = []
        self._findings: list[str] = []
        self.logons = 0
        self.logouts = 0
        self._engine = engine
        self._directory = directory
        self._next = 0
        self._is_ready = False
        self._has_ended = False
        self._stops = 0
        self._changed = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []

    @property
    def account(self) -> str:
        """SenderCompID."""
        return self.login.sender_comp_id

    @property
    def is_running(self) -> bool:
        """Whether its program runs."""
        return self._process is not None

    # ------------------------------------------------------------ the process

    async def start(self) -> None:
        """Start the engine's program; nothing is connected yet."""
        assert self._process is None, "Invariant: one process at a time"
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = self._engine.write_settings(self.login, self._directory)
        self._is_ready = self._has_ended = False
        self._process = await asyncio.create_subprocess_exec(
            *self._engine.program(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
            env=self._engine.environment(),
            cwd=self._directory,
        )
        self._readers = [asyncio.create_task(one) for one in (self._read(), self._read_errors())]
        await self.until(
            lambda: self._is_ready, "the engine's program starts", deadline_s=START_DEADLINE_S
        )

    async def kill(self) -> None:
        """Kill -9: what it had not stored is lost."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._ended()

    async def stop(self) -> None:
        """End the process; it is not logged out before."""
        if self._process is not None:
            assert self._process.stdin is not None, "Invariant: stdin is a pipe"
            self._process.stdin.close()
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                self._findings.append("the engine's program did not end")
            await self._ended()

    async def _ended(self) -> None:
        assert self._process is not None, "Invariant: there was a process"
        await self._process.wait()
        await asyncio.gather(*self._readers)
        self._process = None

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._changed:
                self.take(json.loads(line))
                self._changed.notify_all()
        async with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    async def _read_errors(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        async for line in self._process.stderr:
            self._judge(line.decode(errors="replace").rstrip())

    def take(self, said: dict[str, Any]) -> None:
        """Take what the engine's program says."""
        match said["on"]:
            case "ready":
                self._is_ready = True
            case "logon":
                self.logons += 1
            case "logout":
                self.logouts += 1
            case "stopped":
                self._stops += 1
            case "log":
                self._judge(said["text"])
            case "in":
                self._take_in(Message(said["fields"]))
            case "out":
                self._take_out(Message(said["fields"]))
            case unknown:
                self._findings.append(f"the engine's program said {unknown}")

    def _take_in(self, message: Message) -> None:
        if message[35] not in _ADMIN:
            self.received.append(message)
            return
        self.admin_in.append(message)
        if message[35] == _REJECT:
            self._findings.append(f"the venue rejected a message: {message}")

    def _take_out(self, message: Message) -> None:
        (self.admin_out if message[35] in _ADMIN else self.app_out).append(message)
        if message[35] in (_REJECT, _BUSINESS_REJECT):
            self._findings.append(f"the engine rejected a message: {message}")

    def _judge(self, text: str) -> None:
        if not self._engine.may_say(text):
            self._findings.append(f"the engine says: {text}")

    # ------------------------------------------------------------ what it is told

    async def connect(self, logon: dict[int, str] | None = None) -> None:
        """Log on, and wait until the engine says that it is.

        Args:
            logon: fields to add to each Logon.
        """
        before = self.logons
        fields = self._engine.logon_fields(logon or {})
        await self._tell({"do": "connect", "logon": fields})
        await self.until(lambda: self.logons > before, "logged on")

    async def log_out(self) -> None:
        """Log out, and wait until that is answered and the connection closed."""
        before, answers = self._stops, self._count_logouts()
        await self._tell({"do": "disconnect"})
        await self.until(lambda: self._stops > before, "logged out")
        if self._count_logouts() == answers:
            raise Mismatch("the Logout was not answered")

    def _count_logouts(self) -> int:
        return sum(message[35] == "5" for message in self.admin_in)

    async def send(self, msg_type: str, fields: Fields) -> None:
        """Send an application message."""
        await self._tell({"do": "send", "type": msg_type, "fields": fields})

    async def _tell(self, command: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    # ------------------------------------------------------------ what it received

    async def until(
        self, holds: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S
    ) -> None:
        """Wait for a condition.

        Raises:
            Mismatch: it does not hold in time.
        """
        try:
            async with asyncio.timeout(deadline_s), self._changed:
                await self._changed.wait_for(lambda: self._has_ended or holds())
        except TimeoutError:
            raise Mismatch(
                f"{self.account} waited for: {what}; unread: {self.unread()}; "
                f"last session messages: {self.admin_out[-2:]} {self.admin_in[-2:]}"
            ) from None
        if not holds():
            raise Mismatch(f"{self.account}: the program ended while it waited for: {what}")

    async def next(self) -> Message:
        """Return the next application message."""
        await self.until(lambda: len(self.received) > self._next, "another message")
        self._next += 1
        return self.received[self._next - 1]

    async def expect(self, msg_type: str, tags: dict[int, str] | None = None) -> Message:
        """Return the next application message, which must be this.

        Raises:
            Mismatch: it is another, or there is none.
        """
        message = await self.next()
        if not message.matches(msg_type, tags or {}):
            raise Mismatch(f"{self.account} expected 35={msg_type} {tags}, received {message}")
        return message

    def unread(self) -> list[Message]:
        """Return the messages that no scenario has asked for."""
        return self.received[self._next :]

    def findings(self) -> list[str]:
        """Return what the engine, or the venue, held to be invalid, its log files included."""
        logged = self._engine.logged(self._directory)
        complaints = [text for text in logged if not self._engine.may_say(text)]
        return self._findings + [f"the engine logs: {text}" for text in complaints]
