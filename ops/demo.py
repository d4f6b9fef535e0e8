"""The demo's participants: a few accounts that trade in every symbol over real FIX sessions.

They connect to the gateways of endpoints.json in turns, and to the next one when a connection ends;
what they sent meanwhile is settled between the sessions (MsgSeqNum), as for any client. Orders that
rest from an earlier run are taken over, so that starting again goes on with the same books.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence

from engine.instrument import DecimalGrid
from gateway.fix_message import FixMessage
from gateway.fix_tags import BUSINESS_MESSAGE_REJECT, TAG_CL_ORD_ID, TAG_SYMBOL
from gateway.fix_time import UtcTimestampWriter
from ops.demo_market import TAG_BUSINESS_REJECT_REF_ID, DemoMarket
from ops.demo_users import DemoUsers, read_demo_users
from ops.endpoints import Endpoints, endpoints_path, find_redis, read_endpoints
from ops.errors import CommandFailed, FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator, Phase
from ops.fix_orders import OrderBodies
from ops.fix_tls import venue_context
from ops.flow_generator import MEAN_WAIT_NS, FlowShape
from ops.settings import Settings
from ops.venue_file import Symbol
from ops.wiring import accounts_link
from router import keys
from router.open_orders import parse_open_order

ORDERS_PER_S = 100
"""Requests per second over all symbols: lively to look at, and little for the machine."""

WAITING_MAX = 100
"""Requests of a participant without an answer; with more it waits until the venue has caught up."""

RESTING = 120
"""Orders that a symbol's book holds about."""

_LOW, _HIGH = "10", "110"
"""Between these prices the market moves."""
_QTY_LOTS_MAX = 500
_RETRY_MIN_S, _RETRY_MAX_S = 0.25, 5.0
_PAUSE_MAX_S = 2.0
_FILL_WAIT_S = 0.005
"""Between two requests while a book is being filled."""

logger = logging.getLogger("demo")


class Participant:
    """One account's session, over as many connections as it takes.

    Args:
        number: its place among the participants.
        identity: who logs on.
        settings: tell where endpoints.json stands.
        markets: by the bytes of Symbol (55).
    """

    def __init__(
        self,
        number: int,
        identity: Identity,
        settings: Settings,
        markets: dict[bytes, DemoMarket],
    ) -> None:
        self.number = number
        self._path = endpoints_path(settings.var_dir)
        self._markets = markets
        self._waiting: set[bytes] = set()
        self._client = FixClient(
            Initiator(identity),
            on_messages=self._on_messages,
            tls=venue_context(settings.gateway),
        )
        self._identity = identity

    async def run(self) -> None:
        """Stay logged on until cancelled; then log out."""
        reset, gateway, delay_s = True, self.number, _RETRY_MIN_S
        try:
            while True:
                try:
                    await self._connect(gateway, reset=reset)
                except (FixClientFailed, CommandFailed) as error:
                    # The first tries find the gateway, or the session's last owner, not gone yet.
                    level = logging.WARNING if delay_s == _RETRY_MAX_S else logging.INFO
                    logger.log(level, "participant %s: %s", self._identity.username, error)
                    # A session that the venue knows at another number can only begin anew.
                    reset = reset or "MsgSeqNum" in str(error)
                else:
                    reset, delay_s = False, _RETRY_MIN_S
                    reason = await self._client.wait_lost()
                    logger.info("participant %s: %s", self._identity.username, reason)
                gateway += 1
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _RETRY_MAX_S)
        finally:
            await self._client.logout()

    async def _connect(self, gateway: int, *, reset: bool) -> None:
        endpoints = read_endpoints(self._path)
        if endpoints is None:
            raise CommandFailed(f"no exchange runs here ({self._path} is missing)")
        where = endpoints.fix[gateway % len(endpoints.fix)]
        self._waiting.clear()
        await self._client.connect(where.host, where.port, reset=reset)
        logger.info("participant %s is on port %d", self._identity.username, where.port)

    @property
    def can_send(self) -> bool:
        """Whether it is logged on and the venue keeps up."""
        active = self._client.initiator.phase is Phase.ACTIVE
        return active and len(self._waiting) < WAITING_MAX

    def send(self, cl_ord_id: bytes, message: tuple[bytes, bytes]) -> None:
        """Send a request; only while `can_send`."""
        self._waiting.add(cl_ord_id)
        self._client.send(*message)
        self._client.flush()

    def _on_messages(self, messages: list[FixMessage]) -> None:
        for message in messages:
            is_reject = message.msg_type == BUSINESS_MESSAGE_REJECT
            id_tag = TAG_BUSINESS_REJECT_REF_ID if is_reject else TAG_CL_ORD_ID
            self._waiting.discard(message.fields.get(id_tag, b""))
            market = self._markets.get(message.fields.get(TAG_SYMBOL, b""))
            if market is not None:
                market.receive(message)
            else:
                # An OrderCancelReject or a BusinessMessageReject names no symbol.
                for one in self._markets.values():
                    one.receive(message)


async def run_demo(settings: Settings, *, orders_per_s: int, seed: int | None) -> None:
    """Trade until cancelled.

    Args:
        settings: of the venue.
        orders_per_s: requests per second over all symbols.
        seed: of what the participants do; None: another one each time.

    Raises:
        CommandFailed: no exchange with demo users runs here.
    """
    users = read_demo_users(settings.var_dir)
    endpoints = read_endpoints(endpoints_path(settings.var_dir))
    if users is None or endpoints is None:
        raise CommandFailed("no exchange with demo users runs here: start one (shardex up --demo)")
    chance = random.Random(seed)
    run = f"{time.time_ns() // 1_000_000:x}"
    markets: dict[bytes, DemoMarket] = {}
    for index, symbol in enumerate(settings.symbols):
        market = _market(symbol, index, users, chance, run)
        if market is None:
            logger.warning("%s: its rules leave no room for the demo's market", symbol.name)
        else:
            markets[symbol.name.encode("ascii")] = market
    await _adopt(settings, users, markets)
    participants = [
        Participant(number, _identity(account, users, endpoints), settings, markets)
        for number, account in enumerate(users.traders)
    ]
    async with asyncio.TaskGroup() as tasks:
        for participant in participants:
            tasks.create_task(participant.run())
        for market in markets.values():
            tasks.create_task(_trade(market, participants, orders_per_s / len(markets)))


def _market(
    symbol: Symbol, index: int, users: DemoUsers, chance: random.Random, run: str
) -> DemoMarket | None:
    """Return a symbol's market, or None where its rules do not admit the demo's orders."""
    prices, quantities = DecimalGrid(symbol.tick_size), DecimalGrid(symbol.lot_size)
    low, high = prices.parse(_LOW), prices.parse(_HIGH)
    most = quantities.parse(symbol.max_qty)
    if low is None or high is None or most is None or quantities.parse(symbol.min_qty) != 1:
        return None
    start = low + (high - low) * (index % 4 + 1) // 5
    shape = FlowShape(
        low_ticks=low,
        high_ticks=high,
        start_ticks=start,
        qty_lots_max=min(_QTY_LOTS_MAX, most),
        resting=RESTING,
    )
    bodies = OrderBodies(
        symbol.name, tick_size=symbol.tick_size, lot_size=symbol.lot_size, stp=None
    )
    return DemoMarket(
        shape,
        bodies,
        chance.random,
        participants=len(users.traders),
        run=f"{run}-{index}".encode("ascii"),
    )


def _identity(account: int, users: DemoUsers, endpoints: Endpoints) -> Identity:
    return Identity(str(account), endpoints.target_comp_id, str(account), users.password)


async def _adopt(settings: Settings, users: DemoUsers, markets: dict[bytes, DemoMarket]) -> None:
    """Take over what rests from an earlier run.

    What is filled between this reading and the logon is reported at the logon: every report tells
    how much is left.
    """
    async with accounts_link(settings, find_redis(settings), name="demo-market") as link:
        for owner, account in enumerate(users.traders):
            reply = await link.call("HGETALL", keys.open_orders(account))
            for field, value in zip(reply[::2], reply[1::2], strict=True):
                symbol, _, cl_ord_id = field.partition(b"|")
                order = parse_open_order(value)
                if symbol in markets:
                    markets[symbol].adopt(
                        owner,
                        cl_ord_id,
                        order.side,
                        price_ticks=order.price_ticks,
                        leaves_lots=order.leaves_lots,
                        cum_lots=order.cum_lots,
                    )


async def _trade(
    market: DemoMarket, participants: Sequence[Participant], requests_per_s: float
) -> None:
    """Let the participants trade in one symbol at a pace, quicker while its book is thin."""
    times = UtcTimestampWriter()
    ns_per_s = MEAN_WAIT_NS * requests_per_s
    last_ns: int | None = None
    while True:
        request, at_ns = market.next_request(time=times.write(time.time_ns()))
        if market.resting < RESTING // 2:
            wait_s = _FILL_WAIT_S
        else:
            wait_s = (at_ns - (at_ns if last_ns is None else last_ns)) / ns_per_s
        last_ns = at_ns
        await asyncio.sleep(min(wait_s, _PAUSE_MAX_S))
        if request is None:
            continue
        participant = participants[request.owner]
        if participant.can_send:
            participant.send(request.cl_ord_id, request.message)
        else:
            market.drop(request.cl_ord_id)
