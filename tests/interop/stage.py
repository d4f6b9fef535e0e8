"""What one scenario has: a symbol of its own, and clients with new users, each behind a proxy."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from ssl import create_default_context
from typing import Any

from gateway.auth import hash_password
from ops.private_venue import PrivateVenue
from ops.torture_parts import running_parts
from ops.wiring import accounts_link
from router.ledger import deposit
from router.users import add_user
from tests.interop.clients import DEADLINE_S, Client, Fields, Mismatch
from tests.interop.engines import Engine, Login
from tests.interop.proxy import Proxy
from tests.venue import utc_timestamp

PASSWORD = "interop-9f2c"
HEART_BT_INT_S = 10
BUY, SELL = "1", "2"
MARKET, LIMIT, STOP, STOP_LIMIT = "1", "2", "3", "4"

_QUOTE_AMOUNT = 10**15
_BASE_AMOUNT = 10**9


class Users:
    """Makes users with ample balances; each is somebody new.

    Args:
        venue: where.
    """

    def __init__(self, venue: PrivateVenue) -> None:
        self._venue = venue
        self._link = accounts_link(venue.settings, venue.endpoints.redis_url, name="interop")
        self._hash = hash_password(PASSWORD.encode())
        self._numbers = count(1)

    async def new(self) -> tuple[str, str]:
        """Return SenderCompID and username."""
        username = f"interop-{next(self._numbers)}"
        account = await add_user(self._link, username=username, password_hash=self._hash)
        quotes = {symbol.quote for symbol in self._venue.settings.symbols}
        for asset in self._venue.settings.assets:
            amount = _QUOTE_AMOUNT if asset.name in quotes else _BASE_AMOUNT
            ref = f"interop:{account}:{asset.name}"
            await deposit(self._link, account=account, asset=asset.name, amount=amount, ref=ref)
        return str(account), username

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()


class Stage:
    """The scenario's side of the venue.

    Args:
        venue: it runs.
        users: makes them.
        engine: of all clients.
        dictionary: that they validate with.
        symbol: nobody else trades it.
        directory: for files of the clients, and of the scenario.
        ca: what signed the gateways' certificates; None: they speak plain text.
    """

    def __init__(
        self,
        venue: PrivateVenue,
        users: Users,
        engine: Engine,
        dictionary: Path,
        symbol: str,
        directory: Path,
        ca: Path | None = None,
    ) -> None:
        self.venue = venue
        self.engine = engine
        self.symbol = symbol
        self.clients: list[Client] = []
        self.proxies: dict[str, Proxy] = {}
        self._users = users
        self._dictionary = dictionary
        self.directory = directory
        self._ca = ca
        self._ids = count(1)

    # ------------------------------------------------------------ clients

    async def client(
        self,
        purpose: str = "trading",
        *,
        heart_bt_int_s: int = HEART_BT_INT_S,
        both_gateways: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> Client:
        """Make a client with a new user; its program runs, and is not connected yet.

        Args:
            purpose: trading, market-data or drop-copy.
            heart_bt_int_s: HeartBtInt (108).
            both_gateways: it goes on to the other gateway when one is lost, by itself or, if it
                cannot, because its proxy does; otherwise it has a proxy before the first one.
            more: further settings of the session, as the engine spells them.
        """
        account, username = await self._users.new()
        ports = tuple(endpoint.port for endpoint in self.venue.endpoints.fix)
        engine, tls, ca = self.engine, None, self._ca
        if ca is not None and not engine.speaks_tls:
            tls, ca = create_default_context(cafile=ca), None
        if not both_gateways or not engine.takes_two_ports or tls is not None:
            proxy = Proxy(ports if both_gateways else ports[:1], tls)
            await proxy.start()
            self.proxies[account] = proxy
            ports = (proxy.port,)
        login = Login(
            ports=ports,
            target_comp_id=self.venue.endpoints.target_comp_id,
            sender_comp_id=account,
            username=username,
            password=PASSWORD,
            dictionary=self._dictionary,
            purpose=purpose,
            heart_bt_int_s=heart_bt_int_s,
            ca=ca,
            more=more or {},
        )
        client = Client(engine, login, self.directory / account)
        self.clients.append(client)
        await client.start()
        return client

    async def trader(self, purpose: str = "trading") -> Client:
        """Make a client and log it on."""
        client = await self.client(purpose)
        await client.connect()
        return client

    async def traders(self) -> tuple[Client, Client]:
        """Make two clients and log them on."""
        first, second = await asyncio.gather(self.trader(), self.trader())
        return first, second

    def proxy(self, client: Client) -> Proxy:
        """Return what stands before a client's gateway."""
        return self.proxies[client.account]

    # ------------------------------------------------------------ messages

    def new_id(self) -> str:
        """Return a ClOrdID, or an id of another request."""
        return f"id-{next(self._ids)}"

    def order(
        self,
        side: str,
        qty: str,
        price: str = "",
        *,
        ord_type: str = "",
        more: Fields = (),
    ) -> Fields:
        """Return the fields of a NewOrderSingle: limit with a price, else market."""
        fields: list[tuple[int, Any]] = [
            (11, self.new_id()),
            (55, self.symbol),
            (54, side),
            (60, now()),
        ]
        fields.append((40, ord_type or (LIMIT if price else MARKET)))
        if qty:
            fields.append((38, qty))
        if price:
            fields.append((44, price))
        return [*fields, *more]

    def cancel(self, of: str, side: str) -> Fields:
        """Return the fields of an OrderCancelRequest for the order with this latest ClOrdID."""
        return [(11, self.new_id()), (41, of), (55, self.symbol), (54, side), (60, now())]

    def replace(self, of: str, side: str, qty: str, price: str) -> Fields:
        """Return the fields of an OrderCancelReplaceRequest."""
        return [*self.cancel(of, side), (40, LIMIT), (38, qty), (44, price)]

    async def rest(self, client: Client, side: str, qty: str, price: str) -> str:
        """Send a limit order that rests; return its ClOrdID once it is accepted."""
        fields = self.order(side, qty, price)
        cl_ord_id: str = fields[0][1]
        await client.send("D", fields)
        await client.expect("8", {11: cl_ord_id, 150: "0", 39: "0", 151: qty, 14: "0"})
        return cl_ord_id

    async def cancel_resting(self, client: Client, cl_ord_id: str, side: str) -> None:
        """Cancel an order and wait for the report."""
        fields = self.cancel(cl_ord_id, side)
        await client.send("F", fields)
        await client.expect("8", {11: fields[0][1], 41: cl_ord_id, 150: "4", 39: "4", 151: "0"})

    # ------------------------------------------------------------ the venue

    async def shardex(self, *arguments: str) -> str:
        """Run a command of `shardex` as the operator does; return what it prints.

        Raises:
            Mismatch: it failed; with what it said.
        """
        config = self.venue.settings.var_dir.parent / "exchange.toml"
        command = [sys.executable, "-m", "ops", *arguments, "--config", str(config)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = (await process.communicate())[0].decode()
        if process.returncode != 0:
            raise Mismatch(f"shardex {' '.join(arguments)}: {said}")
        return said

    async def set_phase(self, phase: str) -> None:
        """Change the trading phase of the symbol."""
        await self.shardex("phase", self.symbol, phase)

    async def until_book_is_empty(self) -> None:
        """Wait until nothing rests in the symbol.

        Raises:
            TimeoutError: something still does.
        """
        async with asyncio.timeout(DEADLINE_S):
            # Each look takes a process some tenths of a second.
            while not await self._is_book_empty():
                continue

    async def _is_book_empty(self) -> bool:
        book = json.loads(await self.shardex("book", self.symbol, "--json"))
        return not book["bids"] and not book["asks"]

    def gateway_pid(self, number: int) -> int:
        """Return the process of a gateway, 1 or 2."""
        return running_parts(self.venue.pid)[f"gateway-{number}"]

    # ------------------------------------------------------------ the end

    async def finish(self) -> None:
        """Log everybody out and check that nobody found anything invalid, or has unread messages.

        Raises:
            Mismatch: somebody did.
        """
        for client in self.clients:
            if client.is_running:
                await client.log_out()
                await client.stop()
        unread = [f"{one.account} unread: {m}" for one in self.clients for m in one.unread()]
        if unread or self.findings():
            raise Mismatch("; ".join(unread))

    def findings(self) -> list[str]:
        """Return what clients, or the venue, held to be invalid."""
        return [f"{one.account}: {text}" for one in self.clients for text in one.findings()]

    async def close(self) -> None:
        """End all processes and proxies, whatever happened."""
        for client in self.clients:
            await client.kill()
        for proxy in self.proxies.values():
            await proxy.stop()


@asynccontextmanager
async def staged(stage: Stage) -> AsyncIterator[Stage]:
    """Run a scenario on a stage: it is finished if all went well, and closed in any case."""
    try:
        yield stage
        await stage.finish()
    finally:
        await stage.close()


def now() -> str:
    """Return the time as a UTCTimestamp with milliseconds."""
    return utc_timestamp(time.time_ns())
