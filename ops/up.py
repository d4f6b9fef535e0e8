"""The whole exchange under one roof: servers, symbols, demo users, processes, endpoints, summary.

Start: servers ▸ symbols ▸ writer, market data, engines, gateways ▸ users ▸ endpoints.json ▸
participants. Stop is the reverse: first who sends orders, then who matches them, then who reads
what came of it (the writer after it has caught up), then PostgreSQL and Redis.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ops.data_dir import DataDirectory
from ops.demo_users import DemoUsers, ensure_demo_users
from ops.embedded import EmbeddedServer, free_port
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from ops.endpoints import (
    Credentials,
    Endpoints,
    FixEndpoint,
    endpoints_path,
    find_redis,
    write_endpoints,
)
from ops.processes import Service, Supervisor, supervise
from ops.progress import ProgressReader
from ops.reconcile_watch import ReconcileWatch
from ops.redis_acl import OPERATOR, SUBSCRIBER, ensure_passwords, read_passwords, url_of
from ops.services import ProcessService, ServerService
from ops.settings import Settings, child_environment
from ops.silence_watch import SilenceWatch
from ops.summary import Summary
from ops.terminal import Terminal
from ops.wiring import accounts_link, define_venue, shard_map
from persistence.roles import prepare_database
from router import keys
from router.errors import RedisUnavailable
from router.process_registry import ProcessState, read_processes
from router.redis_client import RedisLink, retry_while_away, url_place
from router.trimming import OrderStreams

CATCH_UP_TIMEOUT_S = 5
"""How long a stop waits for the writer; what is left it writes after the next start."""

PREPARE_CONNECT_TIMEOUT_S = 120
"""For a connection to a server of ours that has just accepted one: it is there, however slow."""

_POLL_S = 0.05

# Somebody may take the port between our look and the gateway's: then look again.
_GATEWAY_START_ATTEMPTS = 3


class Demo(enum.Enum):
    """What `up` adds to the venue for somebody who tries it."""

    NONE = enum.auto()
    QUIET = enum.auto()
    """Users with balances."""
    MARKET = enum.auto()
    """And participants who trade."""


async def run_up(
    settings: Settings,
    config: Path,
    demo: Demo,
    data: DataDirectory,
    terminal: Terminal,
    *,
    standby: bool,
) -> None:
    """Run the exchange until cancelled, then stop it.

    Args:
        config: the venue file, for the processes.
        data: the locked data directory.
        standby: run two engines per shard.

    Raises:
        OpsError: a server or process did not start.
        RouterError: the symbols or demo users cannot be as exchange.toml says.
    """
    exchange = _Exchange(settings, config, demo, data, terminal, standby=standby)
    endpoints_path(settings.var_dir).unlink(missing_ok=True)
    try:
        async with supervise(terminal.say) as supervisor:
            await exchange.run(supervisor)
    finally:
        terminal.say("Stopped.")


class _Exchange:
    """What `run_up` keeps in hand."""

    def __init__(
        self,
        settings: Settings,
        config: Path,
        demo: Demo,
        data: DataDirectory,
        terminal: Terminal,
        *,
        standby: bool,
    ) -> None:
        self._settings = settings
        self._config = config
        self._demo = demo
        self._data = data
        self._terminal = terminal
        self._standby = standby
        self._logs = data.subdirectory("log")
        self._ports: dict[str, int] = {}
        self._children: list[ProcessService] = []
        self._users: DemoUsers | None = None
        self._passwords: dict[str, str] = {}
        self._redis_url = ""
        self._postgres_url = ""
        self._writer_url = ""
        self._has_accepted = False

    async def run(self, supervisor: Supervisor) -> None:
        """Start everything, then show the summary until cancelled."""
        settings, say = self._settings, self._terminal.say
        await self._start_servers(supervisor)
        async with accounts_link(settings, self._redis_url, name="up") as link:
            await define_venue(settings, link)
            if not self._standby:
                await self._forget_standbys(link)
            say("Starting the exchange ...")
            await supervisor.start(*self._processes(link))
            if self._demo is not Demo.NONE:
                # Behind the engines, which clear Redis for deposits after each of its starts.
                self._users = await retry_while_away(
                    lambda: ensure_demo_users(link, settings), what="demo users"
                )
            try:
                self._has_accepted = True
                self._write_endpoints()
                if self._demo is Demo.MARKET:
                    await supervisor.start([self._participants()])
                say(self._welcome())
                await self._run_open(link)
            finally:
                endpoints_path(settings.var_dir).unlink(missing_ok=True)
                say("Stopping ...")

    async def _run_open(self, link: RedisLink) -> None:
        """Show the summary, and look who lives and whether all adds up, until cancelled."""
        interval_s, say = self._settings.reconcile_interval_s, self._terminal.say
        async with (
            link.sibling(link.db, name="up-silence") as silence_link,
            link.sibling(link.db, name="up-reconcile") as reconcile_link,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(SilenceWatch(silence_link, self._pids, say).run())
            if interval_s:
                watch = ReconcileWatch(reconcile_link, interval_s, say)
                tasks.create_task(watch.run())
            await Summary(self._settings, link, self._terminal).run()

    def _pids(self) -> dict[str, int]:
        """Return the processes that run, of those that give signs of life."""
        pids = {service.name: service.pid for service in self._children}
        return {name: pid for name, pid in pids.items() if pid is not None}

    async def _start_servers(self, supervisor: Supervisor) -> None:
        settings, say = self._settings, self._terminal.say
        servers: dict[str, tuple[EmbeddedServer, int]] = {}
        postgres: EmbeddedPostgres | None = None
        if settings.redis_url is None:
            port, binary = settings.redis.port, settings.redis.binary
            self._passwords = ensure_passwords(settings.var_dir)
            redis = EmbeddedRedis(self._data, binary=binary, port=port, passwords=self._passwords)
            servers["redis"] = redis, port
        else:
            if settings.redis.acl_users:
                self._passwords = read_passwords(settings.var_dir)
            self._redis_url = find_redis(settings)
        if settings.postgres_url is None:
            port = settings.postgres.port
            postgres = EmbeddedPostgres(self._data, port=port)
            servers["postgres"] = postgres, port
        else:
            self._postgres_url = settings.postgres_url.get_secret_value()
            self._writer_url = self._postgres_url
        if servers:
            say(f"Starting {' and '.join(servers)} ...")
        # One stage each: PostgreSQL stops before Redis.
        await supervisor.start(
            *([ServerService(name, server)] for name, (server, _) in servers.items())
        )
        for name, (server, wanted) in servers.items():
            self._note_port(name, wanted, server.port)
        if "redis" in servers:
            self._redis_url = servers["redis"][0].url
        if postgres is not None:
            await self._prepare_postgres(postgres)

    async def _prepare_postgres(self, server: EmbeddedPostgres) -> None:
        """Make tables and the writer's role: the writer itself may not."""
        self._postgres_url, self._writer_url = server.url, server.writer_url
        await prepare_database(
            server.url,
            password=server.writer_password,
            connect_timeout_s=PREPARE_CONNECT_TIMEOUT_S,
        )

    def _note_port(self, name: str, wanted: int, port: int) -> None:
        if port != wanted:
            self._terminal.say(f"{name}: port {wanted} is taken, listening on {port}")

    async def _forget_standbys(self, link: RedisLink) -> None:
        """Keep no orders for the second engines of an earlier run."""
        for shard in shard_map(self._settings, self._redis_url).shards:
            await OrderStreams(link, shard).forget(keys.engine_name(shard.id, standby=True))

    def _processes(self, link: RedisLink) -> list[list[Service]]:
        """Return the processes in stages; the last is stopped first."""
        writer = self._process(
            "writer",
            lambda: ["writer"],
            is_ready=lambda state: bool(state.counters.get("positions")),
            link=link,
            before_stop=self._writer_has_caught_up,
        )
        marketdata = self._process(
            "marketdata",
            lambda: ["marketdata"],
            is_ready=lambda state: bool(state.counters.get("symbols")),
            link=link,
        )
        engines = [
            self._engine(shard.id, link, standby=standby)
            for shard in self._settings.shards
            if shard.symbols
            for standby in ((False, True) if self._standby else (False,))
        ]
        count = self._settings.gateway.count
        gateways = [self._gateway(number, link) for number in range(1, count + 1)]
        return [[writer], [marketdata], engines, gateways]

    def _engine(self, shard_id: int, link: RedisLink, *, standby: bool) -> Service:
        return self._process(
            keys.engine_name(shard_id, standby=standby),
            lambda: ["engine", "--shard", str(shard_id), *(["--standby"] if standby else [])],
            is_ready=lambda state: bool(state.counters.get("is_live")),
            link=link,
            is_needed=False,
        )

    def _gateway(self, number: int, link: RedisLink) -> Service:
        name = f"gateway-{number}"
        self._ports[name] = max(self._ports.values(), default=self._settings.gateway.port - 1) + 1
        self._choose_port(name)
        return self._process(
            name,
            lambda: ["gateway", "--name", name, "--port", str(self._choose_port(name))],
            is_ready=lambda state: bool(state.counters.get("port")),
            link=link,
            start_attempts=_GATEWAY_START_ATTEMPTS,
        )

    def _choose_port(self, name: str) -> int:
        """Return the gateway's port, or the next free one that no other gateway has."""
        wanted = self._ports[name]
        others = {port for other, port in self._ports.items() if other != name}
        host = self._settings.gateway.host
        port = free_port(wanted, host=host)
        while port in others:
            port = free_port(port + 1, host=host)
        self._ports[name] = port
        self._note_port(name, wanted, port)
        if port != wanted and self._has_accepted:
            self._write_endpoints()
        return port

    def _participants(self) -> Service:
        return ProcessService(
            "participants",
            lambda: ["demo-market", "--config", str(self._config)],
            environment=self._environment(OPERATOR),
            lock_fd=self._data.lock_fd,
            log_path=self._logs / "participants.log",
            is_ready=_at_once,
            say=self._terminal.say,
        )

    def _process(
        self,
        name: str,
        arguments: Callable[[], Sequence[str]],
        *,
        is_ready: Callable[[ProcessState], bool],
        link: RedisLink,
        before_stop: Callable[[], Awaitable[None]] | None = None,
        start_attempts: int = 1,
        is_needed: bool = True,
    ) -> Service:
        async def reports_itself(pid: int) -> bool:
            try:
                state = (await read_processes(link, [name])).get(name)
            except RedisUnavailable:
                return False
            return state is not None and state.pid == pid and is_ready(state)

        service = ProcessService(
            name,
            lambda: [*arguments(), "--config", str(self._config)],
            # The process's kind is the user that it logs on to Redis as.
            environment=self._environment(name.partition("-")[0]),
            lock_fd=self._data.lock_fd,
            log_path=self._logs / f"{name}.log",
            is_ready=reports_itself,
            say=self._terminal.say,
            before_stop=before_stop,
            start_attempts=start_attempts,
            is_needed=is_needed,
        )
        self._children.append(service)
        return service

    def _environment(self, user: str) -> dict[str, str]:
        """Return the environment of a process that logs on to Redis as a user."""
        postgres_url = self._writer_url if user == "writer" else None
        return child_environment(redis_url=self._url_of(user), postgres_url=postgres_url)

    def _url_of(self, user: str) -> str:
        url = self._redis_url
        return url_of(url, user, self._passwords) if self._passwords else url

    async def _writer_has_caught_up(self) -> None:
        """Wait until PostgreSQL has everything; the engines have stopped already."""
        shards = shard_map(self._settings, self._redis_url).shards
        async with accounts_link(self._settings, self._redis_url, name="up-stop") as link:
            reader = ProgressReader(link, shards)
            lag = 0
            try:
                async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                    while True:
                        lag = (await reader.read()).lags()["writer"]
                        if not lag:
                            return
                        await asyncio.sleep(_POLL_S)
            except (TimeoutError, RedisUnavailable):
                self._terminal.say(
                    f"writer: PostgreSQL lacks {lag} entries; they follow at the next start"
                )
            finally:
                await reader.close()

    def _write_endpoints(self) -> None:
        host = self._settings.gateway.host
        users = self._users
        write_endpoints(
            endpoints_path(self._settings.var_dir),
            Endpoints(
                fix=[FixEndpoint(host, port) for port in self._ports.values()],
                target_comp_id=self._settings.gateway.comp_id,
                users=[Credentials(str(n), str(n), users.password) for n in users.visitors]
                if users
                else [],
                symbols=[symbol.name for symbol in self._settings.symbols],
                redis_url=self._redis_url,
                postgres_url=self._postgres_url,
                market_data_url=self._url_of(SUBSCRIBER),
            ),
        )

    def _welcome(self) -> str:
        settings = self._settings
        ports = ", ".join(f"{settings.gateway.host}:{port}" for port in self._ports.values())
        lines = [
            "",
            "The exchange is open. Ctrl-C stops it.",
            f"  FIX 4.4     {ports}   TargetCompID {settings.gateway.comp_id}",
        ]
        if self._users is not None:
            ids = ", ".join(map(str, self._users.visitors))
            lines.append(f"  log on as   SenderCompID = Username: one of {ids}")
            lines.append(f"              Password: {self._users.password}")
        redis = url_place(self._redis_url)
        lines += [
            f"  Redis       {redis}   channels md:SYMBOL:trades, :bbo, :depth, :status",
            f"  PostgreSQL  {url_place(self._postgres_url)}",
            f"  passwords   {endpoints_path(settings.var_dir)}; logs in {settings.var_dir / 'log'}",
            "",
        ]
        return "\n".join(lines)


async def _at_once(pid: int) -> bool:
    return True
