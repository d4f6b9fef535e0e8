"""One gateway: a listener, the ring, and the tasks around it, wired and run.

    sockets ─▶ sessions ─▶ ring: journal ▸ encode ▸ forward ─▶ admission ─▶ Redis
    sockets ◀─ sessions ◀─ reporter ◀─ outboxes ◀─ Redis

Every task belongs to one group: when one fails, or a callback does, the gateway ends with the
error, and whoever started it starts it again. Its sessions can go on anywhere after their TTL.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.instrument import SymbolRules
from engine.journal_file import JournalFile
from engine.journal_writer import FsyncPolicy, JournalWriter
from gateway.auth import Authenticator
from gateway.connection import Connection, ConnectionLimits
from gateway.daily_reset import run_daily_resets
from gateway.disconnects import Disconnects
from gateway.dispatch import Dispatcher
from gateway.encoder import Encoder
from gateway.fixlog import JOURNAL_KIND
from gateway.lookups import Lookups
from gateway.market_desk import MarketDesk
from gateway.market_feed import MarketFeeds
from gateway.pipeline import Pipeline
from gateway.reporter import Reporter
from gateway.session_keeper import SessionKeeper
from gateway.settings import GatewaySettings
from gateway.settled import logon_limits, session_rules, tls_files
from gateway.symbol_texts import SymbolTable
from gateway.tls import TlsDoor
from gateway.watch import watch_channels, watch_memory
from router.admission import Admission
from router.homes import Home, read_homes
from router.keys import ACCOUNTS_DB, CONTROL_CHANNEL, WAKE_CHANNEL
from router.redis_client import RedisLink, retry_while_away
from router.sessions import Sessions
from router.settings import RedisSettings
from router.shards import Shard
from router.subscriber import Subscriber

_RENEWALS_PER_TTL = 3
_STOP_TIMEOUT_S = 7
"""For Logouts, admission and releases of a clean stop; sessions not released by then expire."""
_STOPPING = "The gateway is stopping; log on again"

logger = logging.getLogger("gateway")


class Gateway:
    """A FIX gateway, from ``run`` until ``stop``; made in the loop that runs it.

    Args:
        name: of the process, such as gateway-1.
        settings: of all gateways.
        redis: how to talk to Redis.
        redis_url: the accounts' server.
        shards: every shard of the venue.
        homes: of every symbol, with the rules in force.
        retired: rules of symbols that are not traded any more.
        journal_directory: of the raw messages; this gateway's own.
        port: to listen on; 0 takes a free one.
        now_ns: the clock, ns since 1970.

    Attributes:
        listening: set when clients can connect.
        bound_port: the port then.

    Raises:
        JournalLocked, JournalCorrupt, JournalMismatch: see ``JournalFile``.
        TlsUnusable: see ``TlsDoor``.
    """

    def __init__(
        self,
        name: str,
        settings: GatewaySettings,
        redis: RedisSettings,
        *,
        redis_url: str,
        shards: Iterable[Shard],
        homes: Mapping[str, Home],
        retired: Iterable[SymbolRules],
        journal_directory: Path,
        port: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._shards = tuple(shards)
        self._port = port
        self._now_ns = now_ns
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.listening = asyncio.Event()
        self.bound_port = 0
        uses = ("admission", "reader", "sessions", "reports", "disconnects", "market")
        self._links = {
            use: RedisLink(
                redis_url, db=ACCOUNTS_DB, name=f"{name}-{use}", timeout_ms=redis.call_timeout_ms
            )
            for use in uses
        }
        self._subscriber = Subscriber(
            redis_url,
            (WAKE_CHANNEL, CONTROL_CHANNEL),
            name=f"{name}-wake",
            timeout_ms=redis.call_timeout_ms,
        )
        file = JournalFile(
            journal_directory,
            kind=JOURNAL_KIND,
            owner=name,
            incarnations={},
            keeps_positions=False,
            now_ns=now_ns,
        )
        self._journal = JournalWriter(
            file,
            policy=FsyncPolicy(settings.journal_fsync),
            compresses=settings.journal_compressed,
        )
        self._limits = ConnectionLimits(
            session_rules(settings),
            write_buffer_bytes_max=settings.write_buffer_bytes_max,
            orders_per_s_max=settings.orders_per_s_max,
            requests_per_s_max=settings.requests_per_s_max,
            now_ns=now_ns,
        )
        self._wire_up(f"{name}:{os.getpid()}:{secrets.token_hex(4)}", homes, retired)

    def _wire_up(
        self, owner: str, homes: Mapping[str, Home], retired: Iterable[SymbolRules]
    ) -> None:
        settings, links, now_ns = self._settings, self._links, self._now_ns
        ttl_ms = self._redis.session_ttl_ms
        symbols = SymbolTable((home.rules for home in homes.values()), retired)
        self._authenticator = Authenticator(links["reader"], logon_limits(settings), now_ns=now_ns)
        self._sessions = Sessions(
            links["sessions"], owner=owner, ttl_ms=ttl_ms, daily_reset_s=settings.daily_reset_s()
        )
        self._keeper = SessionKeeper(
            self._sessions,
            links["reader"],
            self._authenticator,
            self,
            rules=self._limits.rules,
            max_sessions=settings.max_sessions,
            now_ns=now_ns,
        )
        self._reporter = Reporter(
            links["reports"],
            Sessions(links["reports"], owner=owner, ttl_ms=ttl_ms),
            symbols,
            self._keeper.active,
            spawn=self.spawn,
            now_ns=now_ns,
            on_numbers=self._keeper.lease_numbers,
            on_fenced=self._keeper.fenced,
            on_lost=self._keeper.lost,
        )
        self._desk = MarketDesk(
            symbols,
            subscriptions_max=settings.market_data_subscriptions_max,
            now_ns=now_ns,
            on_numbers=self._keeper.lease_numbers,
            on_wanted=lambda symbol: self._feeds.follow(symbol),
        )
        self._feeds = MarketFeeds(
            links["market"],
            homes,
            self._desk,
            timeout_ms=self._redis.call_timeout_ms,
            interval_ms=settings.market_data_interval_ms,
            spawn=self.spawn,
        )
        self._wire_ring(symbols, homes)
        self._door = self._make_door()

    def _wire_ring(self, symbols: SymbolTable, homes: Mapping[str, Home]) -> None:
        settings, links, now_ns = self._settings, self._links, self._now_ns
        encoder = Encoder(symbols, settings)
        protection_ppm = settings.market_protection_ppm
        self._admission = Admission(links["admission"], homes, backlog_max=settings.backlog_max)
        lease_s = self._redis.session_ttl_ms / 1_000
        self._disconnects = Disconnects(
            links["disconnects"], lambda: self._admission.homes, lease_s=lease_s
        )
        self._dispatcher = Dispatcher(
            self._admission,
            symbols,
            encoder,
            Lookups(links["reader"], symbols, encoder, protection_ppm=protection_ppm),
            now_ns=now_ns,
            read_homes=self._read_homes,
            spawn=self.spawn,
            on_logon=self._keeper.logon,
            on_closed=self._keeper.closed,
            on_refused=lambda connection: self._reporter.mark(connection.account),
            on_fenced=self._keeper.fenced,
            on_market=self._desk.handle,
        )
        self._pipeline = Pipeline(
            self._journal,
            encode=encoder.encode,
            forward=self._dispatcher.forward,
            on_request=self._keeper.serve,
            connections_max=settings.connections_max,
        )

    def _make_door(self) -> TlsDoor | None:
        """Return how clients come in over TLS, or None where they come in plain text."""
        files, settings = tls_files(self._settings), self._settings
        if files is None:
            return None
        return TlsDoor(
            files,
            make_protocol=lambda: Connection(self._pipeline, self._limits),
            room=lambda: settings.connections_max - len(self._pipeline.connections),
            spawn=self.spawn,
            handshakes_max=settings.tls_handshakes_max,
            handshake_timeout_s=settings.tls_handshake_timeout_s,
        )

    # ------------------------------------------------------------ Stages, for the session keeper

    async def admitted(self) -> None:
        """Wait until what was handed to admission so far is answered (Stages)."""
        await self._dispatcher.idle()

    async def stored(self, connection: Connection, up_to: int) -> None:
        """Wait until no message up to a MsgSeqNum is being stored (Stages)."""
        await self._reporter.stored(connection, up_to)

    def mark(self, account: int) -> None:
        """Have the account's outbox read (Stages)."""
        self._reporter.mark(account)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task that stops the gateway if it fails (Stages)."""
        assert self._tasks is not None, "Invariant: work comes in while the gateway runs"
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    # ------------------------------------------------------------ running

    async def run(self) -> None:
        """Serve until ``stop``; then log everybody out, finish what was read, and release.

        Raises:
            OSError: the port cannot be listened on.
            HomeMismatch: the Redis is not this venue's.
            JournalSyncFailed: the raw journal is broken.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_callback_error)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for work in self._background():
                    self.spawn(work)
                close_door = await self._open_door(loop)
                self.listening.set()
                logger.info("Listening on %s:%d", self._settings.host, self.bound_port)
                try:
                    await self._ending
                finally:
                    close_door()
                await self._wind_down()
                for task in list(self._running):
                    task.cancel()
        finally:
            loop.set_exception_handler(None)
            await self._close()

    async def _open_door(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Let clients in, and return what ends that."""
        host = self._settings.host
        if self._door is not None:
            self.bound_port = self._door.open(host, self._port)
            return self._door.close
        server = await loop.create_server(
            lambda: Connection(self._pipeline, self._limits), host, self._port
        )
        self.bound_port = server.sockets[0].getsockname()[1]
        return server.close

    def reload_certificates(self) -> None:
        """Read certificate, key and CA again, for the connections to come."""
        if self._door is not None:
            self._door.reload()

    def stop(self) -> None:
        """Begin a clean stop; ``run`` returns when it is done."""
        if not self._ending.done():
            self._ending.set_result(None)

    def stats(self) -> dict[str, Any]:
        """Return the counters for the register of processes."""
        failure = self._journal.failure
        return {
            "problem": "" if failure is None else f"orders are refused (380=4): {failure}",
            "port": self.bound_port,
            "sessions": len(self._keeper.active),
            "connections": len(self._pipeline.connections),
            "handshakes": 0 if self._door is None else self._door.handshakes,
            "messages_in": self._pipeline.messages_in,
            "messages_out": self._pipeline.messages_out,
            "admitted": self._dispatcher.admitted,
            "refused": self._dispatcher.refused,
            "unavailable": self._dispatcher.unavailable,
            "reports": self._reporter.reports,
            "disconnected": self._disconnects.canceled,
            "market_subscriptions": self._desk.subscriptions,
            "market_messages": self._desk.messages,
            "phases_known": self._desk.phases_known,
            "ring_used": self._pipeline.used,
            "redis_available": int(self._admission.available),
            "memory_low": int(self._dispatcher.memory_low),
            "journal_lost": self._pipeline.journal_lost,
        }

    def _background(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._pipeline.run_journal(),
            self._pipeline.run_encode(),
            self._pipeline.run_forward(),
            self._pipeline.run_waiting(),
            self._reporter.run(),
            self._reporter.run_sweeps(self._settings.sweep_interval_ms / 1_000),
            self._keeper.run_renewals(self._redis.session_ttl_ms / 1_000 / _RENEWALS_PER_TTL),
            self._disconnects.run(),
            self._feeds.run_rounds(),
            self._feeds.run_phases(),
            run_daily_resets(self._sessions, self._keeper.active, self._now_ns),
            watch_channels(
                self._subscriber,
                on_wake=self._reporter.mark,
                on_control={
                    b"disabled": self._keeper.disabled,
                    b"contested": self._keeper.contests.contested,
                    b"alive": self._keeper.contests.alive,
                    b"limits": self._keeper.settings_changed,
                },
                on_subscribed=self._reporter.mark_all,
            ),
            watch_memory(
                self._links["reader"],
                percent_max=self._settings.memory_used_percent_max,
                on_change=self._on_memory,
            ),
        ]

    async def _wind_down(self) -> None:
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                for connection in list(self._pipeline.connections):
                    connection.session.logout(_STOPPING, now_ns=self._now_ns())
                    connection.settle()
                await self._pipeline.all_disconnected()
                await self._pipeline.drained()
                await self._dispatcher.idle()
                await self._keeper.all_released()
        except TimeoutError:
            logger.warning("Not everything was finished in %d s", _STOP_TIMEOUT_S)

    async def _close(self) -> None:
        for connection in list(self._pipeline.connections):
            connection.drop()
        self._subscriber.close()
        self._feeds.close()
        self._authenticator.close()
        for link in self._links.values():
            await link.close()
        await self._journal.close()

    async def _read_homes(self) -> dict[str, Home]:
        link = self._links["reader"]
        return await retry_while_away(lambda: read_homes(link, self._shards), what="symbols")

    def _on_memory(self, low: bool) -> None:
        self._dispatcher.memory_low = low

    def _on_callback_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the gateway with what a callback raised, as if a task had."""
        error = context.get("exception")
        loop.default_exception_handler(context)
        if error is not None and not self._ending.done():
            self._ending.set_exception(error)
