"""A venue for integration tests: real Redis, real engines and gateways in this process, raw FIX."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import simplefix
from argon2 import PasswordHasher

from gateway.server import Gateway
from gateway.settings import GatewaySettings
from ops.engine_process import run_engine
from ops.settings import Settings, load_settings
from ops.wiring import accounts_link, define_venue, shard_map
from router import keys
from router.homes import Home, read_retired_rules
from router.ledger import Balance, deposit, read_balances
from router.redis_client import RedisLink
from router.users import add_user
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually_async
from tests.router_helpers import clear_server

PASSWORD = b"secret"
PASSWORD_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
"""Cheap, because a test checks it at every logon."""

USD = 10_000
"""One dollar in smallest units."""
BTC = 100_000_000
"""One bitcoin in smallest units."""

_HEART_BT_INT_S = 600
"""Of the sessions that a test opens: no Heartbeat comes between, however slow the machine is."""

_VENUE = """
var_dir = "{var_dir}"
[redis]
call_timeout_ms = {call_timeout_ms}
[gateway]
heart_bt_int_max_s = {heart_bt_int_s}
logon_timeout_s = 600
resend_age_max_s = 50
[[assets]]
name = "USD"
scale = 4
[[assets]]
name = "BTC"
scale = 8
[[assets]]
name = "ETH"
scale = 8
[[symbols]]
name = "BTC-USD"
base = "BTC"
quote = "USD"
tick_size = "0.05"
lot_size = "0.01"
min_qty = "0.01"
max_qty = "500"
min_notional = "1"
maker_fee_ppm = 100
taker_fee_ppm = 250
[[symbols]]
name = "ETH-USD"
base = "ETH"
quote = "USD"
tick_size = "0.05"
lot_size = "0.01"
min_qty = "0.01"
max_qty = "500"
min_notional = "1"
maker_fee_ppm = 100
taker_fee_ppm = 250
[engine]
read_block_ms = 50
[[shards]]
id = 1
db = 1
symbols = ["BTC-USD"]
[[shards]]
id = 2
db = 2
symbols = ["ETH-USD"]
"""


class Venue:
    """What a test holds of a running venue; made by ``running_venue``."""

    def __init__(
        self, settings: Settings, redis_url: str, link: RedisLink, homes: dict[str, Home]
    ) -> None:
        self.settings = settings
        self.redis_url = redis_url
        self.link = link
        self.homes = homes
        self._refs = 0
        self._peers: list[Peer] = []

    async def connect(self, gateway: Gateway, *, receive_bytes: int = 0) -> Peer:
        """Open a connection; nothing is sent yet. It is closed with the venue.

        Args:
            receive_bytes: what the socket takes before it has to be read; 0: as usual.
        """
        raw = socket.socket()
        raw.setblocking(False)
        if receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", gateway.bound_port))
        peer = Peer(*await asyncio.open_connection(sock=raw))
        self._peers.append(peer)
        return peer

    async def log_on(
        self,
        gateway: Gateway,
        account: int,
        username: str,
        *,
        next_out: int = 1,
        reset: str = "",
        tail: str = "",
    ) -> Peer:
        """Open a connection and log on; the answer must be a Logon."""
        peer = await self.connect(gateway)
        peer.next_out = next_out
        peer.logon(
            account, username, PASSWORD, reset=reset, heart_bt_int_s=_HEART_BT_INT_S, tail=tail
        )
        await peer.expect("A")
        return peer

    async def trader(self, gateway: Gateway, name: str) -> Peer:
        """Create a user with 10,000 USD and 10 BTC, and log on."""
        account = await self.add_user(name, USD=10_000 * USD, BTC=10 * BTC)
        return await self.log_on(gateway, account, name)

    async def close(self) -> None:
        """Close all connections."""
        for peer in self._peers:
            await peer.close()
        self._peers.clear()

    async def add_user(self, username: str, **deposits: int) -> int:
        """Create a user with PASSWORD and deposits in smallest units; return the account."""
        account = await add_user(self.link, username=username, password_hash=PASSWORD_HASH)
        for asset, amount in deposits.items():
            await self.deposit(account, asset, amount)
        return account

    async def deposit(self, account: int, asset: str, amount: int) -> None:
        """Give an account something, in smallest units."""
        self._refs += 1
        ref = f"test-{self._refs}"
        await deposit(self.link, account=account, asset=asset, amount=amount, ref=ref)

    async def released(self, account: int) -> None:
        """Wait until a session that has ended may be logged on anywhere."""

        async def is_released() -> bool:
            return bool(await self.link.call("HGET", keys.session(account), "owner") == b"")

        await eventually_async(is_released)

    async def balances(self, account: int) -> dict[str, Balance]:
        """Return an account's balances."""
        return await read_balances(self.link, account)

    @asynccontextmanager
    async def engine(self, shard_id: int) -> AsyncIterator[None]:
        """Run the engine of a shard."""
        task = asyncio.create_task(run_engine(self.settings, self.redis_url, shard_id))
        shard = next(one for one in self.settings.shards if one.id == shard_id)
        try:
            async with self.link.sibling(shard.db) as link:

                async def is_cleared() -> bool:
                    return task.done() or await link.call("GET", keys.CLEARED) == run_id_of(link)

                await eventually_async(is_cleared)
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def gateway(
        self,
        name: str = "gateway-1",
        settings: GatewaySettings | None = None,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> AsyncIterator[Gateway]:
        """Run a gateway on a free port; leaving stops it cleanly, unless it has ended by itself."""
        gateway = Gateway(
            name,
            settings or self.settings.gateway,
            self.settings.redis,
            redis_url=self.redis_url,
            shards=shard_map(self.settings, self.redis_url).shards,
            homes=self.homes,
            retired=await read_retired_rules(self.link, self.homes),
            journal_directory=self.settings.var_dir / "journals" / name,
            port=0,
            now_ns=now_ns,
        )
        running = asyncio.create_task(gateway.run())
        try:
            listening = asyncio.create_task(gateway.listening.wait())
            await asyncio.wait((running, listening), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
            yield gateway
        finally:
            # Clients that are gone need no Logout, and nobody waits for theirs.
            await self.close()
            gateway.stop()
            await running


@asynccontextmanager
async def running_venue(
    redis_url: str, directory: Path, *, engines: bool = True, more: str = ""
) -> AsyncIterator[Venue]:
    """Define the venue in an empty Redis and, unless somebody else does, run all engines.

    Args:
        more: what exchange.toml has besides.
    """
    config = directory / "exchange.toml"
    patience = {"call_timeout_ms": DEADLINE_MS, "heart_bt_int_s": _HEART_BT_INT_S}
    config.write_text(_VENUE.format(var_dir=directory / "var", **patience) + more)
    settings = load_settings(config, {})
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(accounts_link(settings, redis_url, name="test"))
        venue = Venue(settings, redis_url, link, await define_venue(settings, link))
        for shard in settings.shards:
            if engines:
                await stack.enter_async_context(venue.engine(shard.id))
            else:
                await clear_server(link, keys.ACCOUNTS_DB, shard.db)
        yield venue


def run_id_of(link: RedisLink) -> bytes:
    """Return the run id of the server that a link has met."""
    return link.run_id.encode()


class Peer:
    """The client's side of a connection, without any session logic: a test says what it sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = simplefix.FixParser()
        self.account = 0
        self.next_out = 1
        self.received: list[simplefix.FixMessage] = []

    def logon(
        self,
        account: int,
        username: str,
        password: bytes,
        *,
        reset: str = "",
        heart_bt_int_s: int = 60,
        tail: str = "",
    ) -> None:
        """Send a Logon; ``tail``: more fields, such as ``|8013=Y``."""
        self.account = account
        more = f"|141={reset}" if reset else ""
        secrets = f"553={username}|554={password.decode()}"
        self.send(f"35=A|98=0|108={heart_bt_int_s}|{secrets}{more}{tail}")

    def send(self, text: str, *, number: int | None = None, header: str = "") -> None:
        """Send `35=…|tag=value|…`; the header is filled in, 60 where it is ``60=now``."""
        self.send_raw(self.render(text, number=number, header=header))

    def render(self, text: str, *, number: int | None = None, header: str = "") -> bytes:
        """Return a message as ``send`` sends it, and count its number."""
        if number is None:
            number, self.next_out = self.next_out, self.next_out + 1
        now = utc_timestamp(time.time_ns())
        message = simplefix.FixMessage()
        msg_type, *fields = text.replace("60=now", f"60={now}").split("|")
        head = f"8=FIX.4.4|{msg_type}|49={self.account}|56=SHARDEX|34={number}|52={now}"
        for piece in [*head.split("|"), *filter(None, header.split("|")), *fields]:
            tag, _, value = piece.partition("=")
            message.append_pair(int(tag), value, header=tag in ("8", "35"))
        return bytes(message.encode())

    def send_raw(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def next_message(self) -> dict[str, str] | None:
        """Return the next message as tag → value (of groups the last), None when it is over."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                message = self._parser.get_message()
                if message is not None:
                    break
                try:
                    data = await self._reader.read(65_536)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self._parser.append_buffer(data)
        self.received.append(message)
        return {tag.decode(): value.decode() for tag, value in message.pairs}

    async def expect(self, msg_type: str, **tags: str) -> dict[str, str]:
        """Return the next message, which must have this type and these tags (t58="…")."""
        message = await self.expect_any()
        wanted = {"35": msg_type} | {tag.removeprefix("t"): value for tag, value in tags.items()}
        assert {tag: message.get(tag) for tag in wanted} == wanted, message
        return message

    async def expect_any(self) -> dict[str, str]:
        """Return the next message, of whatever type."""
        message = await self.next_message()
        assert message is not None, "expected a message, the connection was closed"
        return message

    async def expect_closed(self) -> None:
        """Expect that the connection ends without another message."""
        message = await self.next_message()
        assert message is None, message

    async def close(self) -> None:
        """Close the connection without a Logout."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


def limit_order(cl_ord_id: str, side: int, qty: str, price: str, more: str = "") -> str:
    """Return a NewOrderSingle in BTC-USD for ``Peer.send``."""
    return f"35=D|11={cl_ord_id}|55=BTC-USD|54={side}|60=now|38={qty}|40=2|44={price}{more}"


def utc_timestamp(ts_ns: int) -> str:
    """Return a UTCTimestamp with milliseconds."""
    moment = datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC).strftime("%Y%m%d-%H:%M:%S")
    return f"{moment}.{ts_ns // 1_000_000 % 1_000:03d}"
