"""Replay the examples of docs/fix.md that need a venue: clients, an operator, a shard that is away.

What the lines of an example mean stands in docs/fix.md, "How the examples are written".
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Awaitable, Callable

from engine.enums import TradingPhase
from gateway.account_limits import limits_of
from gateway.server import Gateway
from router import keys
from router.phases import PhaseRequest, request_phase
from router.user_fields import set_user_field
from router.user_settings import read_settings
from tests.helpers import eventually_async
from tests.venue import BTC, USD, Peer, Venue, utc_timestamp

MORE_SYMBOLS = """
[[assets]]
name = "SOL"
scale = 8
[[symbols]]
name = "SOL-USD"
base = "SOL"
quote = "USD"
tick_size = "0.05"
lot_size = "0.01"
min_qty = "0.01"
max_qty = "500"
min_price = "1"
max_price = "1000"
price_band_ppm = 100000
price_band_action = "halt"
[[shards]]
id = 3
db = 3
symbols = ["SOL-USD"]
"""
"""A symbol with price bands, beside those of every test venue."""

_HEADER_TAGS = ("43", "97", "122")
_NOW = re.compile(r"<now([+-]\d+)?>")
_SOON = re.compile(r"\b126=<now\+\d+>")
_FIELDS = {"--cancel-on-disconnect": "cancel_on_disconnect_s"}


class Examples:
    """One example on its way.

    Args:
        venue: empty, with ``MORE_SYMBOLS``.
        gateway: of that venue.
    """

    def __init__(self, venue: Venue, gateway: Gateway) -> None:
        self._venue = venue
        self._gateway = gateway
        self._accounts: dict[str, int] = {}
        self._peers: dict[str, Peer] = {}
        self._name = ""
        self._expiring = ("", "")
        self._marks: dict[str, bytes] = {}
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "C": self._client,
            "N": self._connect,
            "I": self._in,
            "E": self._expect,
            "e": self._expect_end,
            "B": self._break,
            "U": self._until_gone,
            "O": self._operator,
            "X": self._shard,
        }

    async def replay(self, text: str) -> None:
        """Replay an example; what is not as it says is an AssertionError with the line."""
        for number, line in enumerate(text.splitlines(), 1):
            command, _, rest = line.partition(" ")
            if not line or command in ("#", "S"):
                continue
            assert command in self._commands, f"line {number}: no such command: {line}"
            try:
                await self._commands[command](rest)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"line {number}: {line}: {error!r}") from error

    # ------------------------------------------------------------ clients

    async def _client(self, rest: str) -> None:
        name, bar, tail = rest.partition("|")
        self._name = name
        if name in self._peers:
            return
        account = await self._account(name)
        numbers = await self._venue.link.call("HGET", keys.session(account), "dealt")
        self._peers[name] = await self._venue.log_on(
            self._gateway, account, name, next_out=int(numbers or 0) + 1, tail=bar + tail
        )

    async def _connect(self, name: str) -> None:
        self._name = name
        self._peers[name] = await self._venue.connect(self._gateway)
        self._peers[name].account = await self._account(name)

    async def _account(self, name: str) -> int:
        if name not in self._accounts:
            amounts = {"USD": 10_000 * USD, "BTC": 10 * BTC, "SOL": 10 * BTC}
            self._accounts[name] = await self._venue.add_user(name, **amounts)
        return self._accounts[name]

    async def _in(self, rest: str) -> None:
        peer = self._peers[self._name]
        fields = _NOW.sub(_timestamp, rest).split("|")
        if _SOON.search(rest):
            self._expiring = rest, dict(field.split("=", 1) for field in fields)["126"]
        numbers = [int(field[3:]) for field in fields if field.startswith("34=")]
        if numbers:
            peer.next_out = numbers[0]
        header = [field for field in fields if field.partition("=")[0] in _HEADER_TAGS]
        body = [field for field in fields if field not in header and field[:3] != "34="]
        peer.send("|".join(body), header="|".join(header))

    async def _expect(self, rest: str) -> None:
        peer = self._peers[self._name]
        message = await peer.next_message()
        if message is not None and self._came_late(message):
            await self._in(_SOON.sub("126=<now+30>", self._expiring[0]))
            message = await peer.next_message()
        assert message is not None, "the connection was closed"
        pairs = [(tag.decode(), value.decode()) for tag, value in peer.received[-1].pairs]
        tags = [tag for tag, _ in pairs]
        for piece in self._known_names(rest).split("|"):
            tag, is_pair, value = piece.partition("=")
            if not is_pair:
                assert tag.startswith("-") and tag[1:] not in tags, message
            elif value == "*":
                assert tag in tags, message
            else:
                assert (tag, value) in pairs, message

    def _came_late(self, message: dict[str, str]) -> bool:
        """Tell whether an order is refused because this machine took longer than its time."""
        line, expiry = self._expiring
        return bool(line) and message.get("103") == "4" and message["60"] >= expiry

    async def _expect_end(self, _rest: str) -> None:
        await self._peers.pop(self._name).expect_closed()

    def _known_names(self, text: str) -> str:
        return re.sub(r"<(\w+)>", lambda found: str(self._accounts[found[1]]), text)

    async def _break(self, _rest: str) -> None:
        account = self._accounts[self._name]
        await self._peers.pop(self._name).close()

        async def is_released() -> bool:
            owner = await self._venue.link.call("HGET", keys.session(account), "owner")
            return not owner

        await eventually_async(is_released)

    async def _until_gone(self, _rest: str) -> None:
        key = keys.open_orders(self._accounts[self._name])

        async def is_gone() -> bool:
            return not await self._venue.link.call("HLEN", key)

        await eventually_async(is_gone)

    # ------------------------------------------------------------ operator, and a shard

    async def _operator(self, rest: str) -> None:
        words = shlex.split(rest)
        if words[:2] == ["shardex", "phase"]:
            symbol, phase = words[2:]
            wanted = TradingPhase[phase.upper().replace("-", "_")]
            request = PhaseRequest(self._venue.homes[symbol], wanted, f"{time.time_ns()}")
            await request_phase(self._venue.link, request)
            return
        assert words[:2] == ["shardex", "user"], "no such operation"
        action, name, *options = words[2:]
        account = self._accounts[name]
        if action == "drop-copy":
            others = " ".join(str(self._accounts[other]) for other in options[1:])
            await self._set(account, "drop_copy", others)
            return
        assert action == "set", "no such action"
        option, value = options
        asset, is_pair, amount = value.partition("=")
        if is_pair:
            value = f"{asset}={int(amount) * USD}"
        field = _FIELDS.get(option, option[2:].replace("-", "_"))
        await self._set(account, field, value)

    async def _set(self, account: int, field: str, value: str) -> None:
        """Set a field of a user, and wait until its session counts by it."""
        await set_user_field(self._venue.link, account=account, field=field, value=value)
        settings = await read_settings(self._venue.link, account)
        connection = self._gateway._keeper.active.get(account)
        if connection is not None:
            await eventually_async(
                lambda: (
                    connection.limits == limits_of(settings)
                    and connection.only_reads is bool(settings.drop_copy)
                )
            )

    async def _shard(self, rest: str) -> None:
        word, symbol = rest.split()
        async with self._venue.link.sibling(self._venue.homes[symbol].db) as link:
            if word == "away":
                self._marks[symbol] = await link.call("GET", keys.CLEARED)
                await link.call("SET", keys.CLEARED, "")
            else:
                await link.call("SET", keys.CLEARED, self._marks[symbol])


def gateway_settings_of(text: str) -> dict[str, int]:
    """Return the settings that the S lines of an example name."""
    pairs = re.findall(r"^S (\w+)=(\d+)$", text, re.MULTILINE)
    return {name: int(value) for name, value in pairs}


def _timestamp(found: re.Match[str]) -> str:
    return utc_timestamp(time.time_ns() + int(found[1] or 0) * 1_000_000_000)
