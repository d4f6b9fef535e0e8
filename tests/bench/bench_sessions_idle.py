"""What logons and idle sessions cost a gateway: `python -m tests.bench.bench_sessions_idle`.

Users with passwords hashed as `shardex user add` does log on to the one gateway of a private venue,
16 at a time, until 500 are on; then nobody does anything but heartbeats, every 30 s each way.
Measured: logons per second, and while all are idle the gateway's and Redis' CPU time and the
gateway's memory, beside those of the same gateway without sessions. At the end every session must
still be on, at the numbers that its heartbeats account for. Ed25519 signatures, TLS and a network
are left out; the clients run on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from gateway.auth import hash_password
from gateway.fix_message import FixMessage
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator, Phase
from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from ops.torture_parts import REDIS, running_parts
from ops.wiring import accounts_link
from router.users import add_user
from tests.bench.machine import cpu_s

SESSIONS, QUICK_SESSIONS = 500, 100
IDLE_S, QUICK_IDLE_S = 30.0, 6.0
AT_ONCE = 16
HEART_BT_INT_S = 30
PASSWORD = "not a secret"

_GATEWAY = "gateway-1"


def no_messages(messages: list[FixMessage]) -> None:
    """Take application messages: there are none."""
    raise AssertionError(f"idle sessions are told nothing: {messages[0].raw!r}")


def memory_bytes(pid: int) -> int:
    """Return how much memory a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmRSS of {pid}")


class Watched:
    """CPU time of gateway and Redis, in s.

    Args:
        venue: theirs.
    """

    def __init__(self, venue: PrivateVenue) -> None:
        pids = running_parts(venue.pid)
        self.gateway_pid = pids[_GATEWAY]
        self._pids = {"gateway": self.gateway_pid, "redis": pids[REDIS]}

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time so far, by name."""
        return {name: cpu_s(pid) for name, pid in self._pids.items()}

    async def percent_over(self, seconds: float) -> dict[str, float]:
        """Return the share of one core that each takes over the next so many seconds."""
        before, began_s = self.cpu_s(), time.monotonic()
        await asyncio.sleep(seconds)
        took_s = time.monotonic() - began_s
        return {name: 100 * (after - before[name]) / took_s for name, after in self.cpu_s().items()}


async def log_on_all(venue: PrivateVenue, sessions: int) -> tuple[list[FixClient], float]:
    """Make users and log them on; return their clients, and logons per second."""
    password_hash = hash_password(PASSWORD.encode())
    async with accounts_link(venue.settings, venue.endpoints.redis_url, name="bench") as link:
        names = [f"idle-{number}" for number in range(sessions)]
        accounts = [
            await add_user(link, username=name, password_hash=password_hash) for name in names
        ]
    clients = [
        FixClient(
            Initiator(
                Identity(str(account), venue.endpoints.target_comp_id, name, PASSWORD),
                heart_bt_int_s=HEART_BT_INT_S,
            ),
            on_messages=no_messages,
        )
        for account, name in zip(accounts, names, strict=True)
    ]
    turn = asyncio.Semaphore(AT_ONCE)
    gateway = venue.endpoints.fix[0]

    async def log_on(client: FixClient) -> None:
        async with turn:
            await client.connect(gateway.host, gateway.port, reset=False)

    began_s = time.monotonic()
    await asyncio.gather(*(log_on(client) for client in clients))
    return clients, sessions / (time.monotonic() - began_s)


async def measure(sessions: int, idle_s: float, parent: Path) -> dict[str, Any]:
    """Return the figures; every check has held."""
    async with private_venue([PrivateSymbol("ALFA-USD")], parent=parent, gateways=1) as venue:
        watched = Watched(venue)
        empty = await watched.percent_over(idle_s / 3)
        empty_bytes = memory_bytes(watched.gateway_pid)
        before_s = watched.cpu_s()["gateway"]
        clients, logons_per_s = await log_on_all(venue, sessions)
        logon_ms = (watched.cpu_s()["gateway"] - before_s) / sessions * 1_000
        idle = await watched.percent_over(idle_s)
        idle_bytes = memory_bytes(watched.gateway_pid)
        beats = int(idle_s / HEART_BT_INT_S) + 2
        for client in clients:
            initiator = client.initiator
            assert initiator.phase is Phase.ACTIVE, f"a session has ended: {initiator.reason}"
            assert initiator.next_in <= 2 + beats, "Invariant: nothing comes but heartbeats"
        await asyncio.gather(*(client.logout() for client in clients))
    return {
        "sessions": sessions,
        "logons_per_s": logons_per_s,
        "logon_cpu_ms": logon_ms,
        "gateway_percent": idle["gateway"],
        "gateway_percent_empty": empty["gateway"],
        "redis_percent": idle["redis"],
        "redis_percent_empty": empty["redis"],
        "gateway_mb": idle_bytes / 1e6,
        "kb_per_session": (idle_bytes - empty_bytes) / sessions / 1e3,
    }


def main() -> None:
    """Print the figures, for people and as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_sessions_idle")
    parser.add_argument("--quick", action="store_true", help="fewer sessions, for a shorter time")
    args = parser.parse_args()
    sessions, idle_s = (QUICK_SESSIONS, QUICK_IDLE_S) if args.quick else (SESSIONS, IDLE_S)
    result = uvloop.run(measure(sessions, idle_s, Path("var")))
    print(
        f"{result['logons_per_s']:.1f} logons/s, {result['logon_cpu_ms']:.1f} ms of CPU each; "
        f"{sessions} idle sessions: gateway {result['gateway_percent']:.1f} % of a core "
        f"({result['gateway_percent_empty']:.1f} % without), {result['gateway_mb']:.0f} MB, "
        f"{result['kb_per_session']:.1f} kB a session; Redis {result['redis_percent']:.1f} % "
        f"({result['redis_percent_empty']:.1f} %)"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
