"""Who takes part in a torture: traders, a drop copy, watchers, operators, and who strikes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from marketdata.subscriber import MarketSubscriber
from ops.endpoints import endpoints_path, read_endpoints
from ops.private_venue import PrivateSymbol, PrivateVenue
from ops.torture_chaos import Chaos
from ops.torture_client import Client
from ops.torture_copier import Copier
from ops.torture_deposits import Depositor
from ops.torture_parts import REDIS, Parts, kind_of, part_names
from ops.torture_phases import PhaseOperator
from ops.torture_requests import BURST_MAX
from ops.torture_trader import Trader
from ops.torture_users import Users, ensure_users
from ops.torture_watcher import SUBSCRIPTIONS, Watcher
from ops.wiring import accounts_link, read_venue
from router.redis_client import RedisLink

GATEWAYS = 2
SHARDS = 2
SYMBOLS = (
    PrivateSymbol("ALFA-USD", maker_fee_ppm=100, taker_fee_ppm=250),
    PrivateSymbol("BETA-USD", maker_fee_ppm=0, taker_fee_ppm=300),
    PrivateSymbol("GAMMA-USD", maker_fee_ppm=200, taker_fee_ppm=200),
    PrivateSymbol("DELTA-USD", maker_fee_ppm=50, taker_fee_ppm=0),
)
CLIENTS_MAX = 12
"""As many users as a private venue has."""

ANSWER_WITHIN_S = 120
"""How long we ourselves wait for an answer of Redis, and for a connection to PostgreSQL."""


class Options(msgspec.Struct, frozen=True):
    """What is wanted.

    Args:
        seconds: how long clients trade while parts are killed.
        seed: see torture.py.
        clients: FIX sessions that trade, each with an account of its own; at most CLIENTS_MAX.
        messages_per_s: of all clients together, while nobody waits.
        standby: whether each shard has a second engine.
        patience_s: how long trading may stand still while all is up; twice that a part may be down,
            and all may take to come to rest.
        only: kinds of parts that are struck; none: all.
        fail_fast: end at the first failure, without the checks at the end.
        parent: where the venue's directory is made.
    """

    seconds: float
    seed: int
    clients: int
    messages_per_s: int
    standby: bool
    patience_s: float
    only: tuple[str, ...]
    fail_fast: bool
    parent: Path


class Cast(msgspec.Struct, frozen=True):
    """Who takes part.

    Attributes:
        traders: who trade.
        canceled: those of them whose orders are canceled when they are gone.
        copier: who gets copies of what some of them are told.
        watchers: who follow market data over FIX.
        subscriber: who follows it over Redis.
        depositor, phases: operators.
        chaos: who strikes.
    """

    traders: list[Trader]
    canceled: list[Trader]
    copier: Copier
    watchers: list[Watcher]
    subscriber: MarketSubscriber
    depositor: Depositor
    phases: PhaseOperator
    chaos: Chaos

    @property
    def clients(self) -> list[Client]:
        """Return all FIX sessions."""
        return [*self.traders, self.copier, *self.watchers]


@asynccontextmanager
async def take_part(
    venue: PrivateVenue,
    options: Options,
    *,
    fail: Callable[[str], None],
    say: Callable[[str], None],
) -> AsyncIterator[Cast]:
    """Let clients, subscriber and watch run for as long as the context lasts.

    Args:
        fail: called with what must not be.
        say: called with what is done to the venue.
    """
    names = part_names(GATEWAYS, SHARDS, standby=options.standby)
    parts = Parts(venue, names)
    async with (
        open_link(venue, "torture-deposits") as deposits,
        open_link(venue, "torture-phases") as phases,
        asyncio.TaskGroup() as tasks,
    ):
        users = await ensure_users(venue, deposits, options.clients)
        traders = _traders(venue, options, users)
        seed, symbols = options.seed, [one.name for one in SYMBOLS]
        copied = [one for one in traders if one.account in users.copied]
        target, ports = venue.endpoints.target_comp_id, _ports(venue)
        assets = [one.name for one in venue.settings.assets]
        homes = await read_venue(venue.settings, phases)
        cast = Cast(
            traders,
            [one for one in traders if one.account in users.canceled],
            Copier(users.copier, target, copied, seed=f"{seed}/copier", ports=ports, gateway=0),
            [
                Watcher(
                    *(user, target, symbols, subscriptions),
                    seed=f"{seed}/watcher-{number}",
                    ports=ports,
                    gateway=number,
                )
                for number, (user, subscriptions) in enumerate(
                    zip(users.watchers, SUBSCRIPTIONS, strict=True)
                )
            ],
            MarketSubscriber(venue.endpoints.redis_url, symbols),
            Depositor(deposits, [one.account for one in traders], assets, seed=f"{seed}/deposits"),
            PhaseOperator(phases, homes, seed=f"{seed}/phases", say=say),
            _chaos(venue, options, parts, names, traders, fail=fail, say=say),
        )
        works = [cast.subscriber.run(), cast.chaos.watch(), *(one.run() for one in cast.clients)]
        running = [tasks.create_task(work) for work in works]
        try:
            yield cast
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await parts.close()


@asynccontextmanager
async def open_link(venue: PrivateVenue, name: str) -> AsyncIterator[RedisLink]:
    """Open a connection to the accounts database."""
    async with accounts_link(venue.settings, venue.endpoints.redis_url, name=name) as link:
        yield link


def patient(venue: PrivateVenue) -> PrivateVenue:
    """Return a venue with settings by which we wait longer for its servers than its processes do.

    Who asks just when the machine stands still has found no fault.
    """
    settings = venue.settings
    redis = settings.redis.model_copy(update={"call_timeout_ms": ANSWER_WITHIN_S * 1_000})
    postgres = settings.postgres.model_copy(update={"connect_timeout_s": ANSWER_WITHIN_S})
    changed = settings.model_copy(update={"redis": redis, "postgres": postgres})
    return msgspec.structs.replace(venue, settings=changed)


def _traders(venue: PrivateVenue, options: Options, users: Users) -> list[Trader]:
    return [
        Trader(
            user,
            venue.endpoints.target_comp_id,
            [one.name for one in SYMBOLS],
            seed=f"{options.seed}/client-{number}",
            ports=_ports(venue),
            gateway=number,
            pause_s=options.clients * (1 + BURST_MAX) / 2 / options.messages_per_s,
            roams=True,
            says_cancel=int(user.sender_comp_id) in users.say_cancel,
        )
        for number, user in enumerate(users.traders)
    ]


def _chaos(
    venue: PrivateVenue,
    options: Options,
    parts: Parts,
    names: list[str],
    traders: list[Trader],
    *,
    fail: Callable[[str], None],
    say: Callable[[str], None],
) -> Chaos:
    struck = [*names, REDIS, *(f"engine-{shard}" for shard in range(1, SHARDS + 1))]
    return Chaos(
        venue,
        parts,
        traders,
        seed=options.seed,
        names=names,
        struck=[one for one in struck if not options.only or kind_of(one) in options.only],
        has_standbys=options.standby and not options.only,
        patience_s=options.patience_s,
        ports=_ports(venue),
        fail=fail,
        say=say,
    )


def _ports(venue: PrivateVenue) -> Callable[[], list[int]]:
    def ports() -> list[int]:
        endpoints = read_endpoints(endpoints_path(venue.settings.var_dir)) or venue.endpoints
        return [one.port for one in endpoints.fix]

    return ports
