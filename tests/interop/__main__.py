"""`python -m tests.interop` (`make interop`): all scenarios at all engines, a line each.

Engines are looked for where `make interop` installs them. Exit code: 0 all went well, 1 something
did not, 2 an engine is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from tests.certificates import Authority
from tests.interop import (
    scenarios_conditions,
    scenarios_logon,
    scenarios_market,
    scenarios_mass,
    scenarios_orders,
    scenarios_session,
)
from tests.interop.clients import DEADLINE_S
from tests.interop.engines import Engine, JsPureFix, QuickFix
from tests.interop.stage import Stage, Users, staged

_ROOT = Path(__file__).parent.parent.parent
_INSTALLED = _ROOT / ".venv-interop"
OURS = _ROOT / "docs" / "FIX44-shardex.xml"

SCENARIO_TIMEOUT_S = 8 * DEADLINE_S
FEE_PPM = 200

Scenario = Callable[[Stage], Awaitable[None]]
SCENARIOS: list[Scenario] = [
    *scenarios_orders.SCENARIOS,
    *scenarios_conditions.SCENARIOS,
    *scenarios_mass.SCENARIOS,
    *scenarios_market.SCENARIOS,
    *scenarios_session.SCENARIOS,
    *scenarios_logon.SCENARIOS,
]
ONLY_QUICKFIX: Sequence[Scenario] = scenarios_logon.SCENARIOS
"""The Logon of jspurefix is made before its number and time are known."""

OVER_TLS: list[Scenario] = [
    scenarios_orders.two_clients_trade,
    scenarios_orders.a_client_trades_fast,
    scenarios_market.subscription_follows_the_book,
    scenarios_session.cut_off_and_goes_on_with_missed_executions,
    scenarios_session.killed_gateway_is_left_for_the_other,
]


@dataclass(frozen=True)
class Run:
    """Scenarios with one engine and one dictionary."""

    engine: Engine
    dictionary: Path
    scenarios: list[Scenario]
    speaks_tls: bool = False

    @property
    def name(self) -> str:
        """As it is printed."""
        return f"{self.engine.name}, {self.dictionary.name}{', TLS' if self.speaks_tls else ''}"


class Play:
    """Runs at one venue.

    Args:
        venue: it runs.
        ca: what signed its gateways' certificates; None: they speak plain text.

    Attributes:
        failed: scenarios in which something was wrong.
    """

    def __init__(self, venue: PrivateVenue, ca: Path | None) -> None:
        self._venue = venue
        self._ca = ca
        self._users = Users(venue)
        self.failed = 0

    async def all_of(self, run: Run) -> None:
        """Play all scenarios of a run, and print a line for each."""
        for scenario in run.scenarios:
            began_s = time.monotonic()
            wrong = await self._one(run, scenario)
            self.failed += bool(wrong)
            mark = "FAILED" if wrong else "ok"
            took_s = time.monotonic() - began_s
            print(f"{mark:6} {run.name:35} {scenario.__name__:45} {took_s:5.1f} s", flush=True)
            if wrong:
                print(f"       {wrong}", flush=True)

    async def _one(self, run: Run, scenario: Scenario) -> str:
        """Play one scenario; return what was wrong, or nothing."""
        symbol = self._venue.endpoints.symbols[SCENARIOS.index(scenario)]
        with tempfile.TemporaryDirectory(prefix="interop-") as directory:
            folder = Path(directory)
            stage = Stage(
                self._venue, self._users, run.engine, run.dictionary, symbol, folder, self._ca
            )
            try:
                async with asyncio.timeout(SCENARIO_TIMEOUT_S), staged(stage):
                    await scenario(stage)
            except (AssertionError, TimeoutError, OSError) as error:
                return "; ".join([f"{type(error).__name__}: {error}", *stage.findings()])
        return ""

    async def close(self) -> None:
        """Close the connection to the venue's accounts; say what is kept of the venue."""
        await self._users.close()
        if self.failed:
            print(f"kept: {self._venue.settings.var_dir.parent}")


async def play_all(runs: list[Run]) -> int:
    """Play the runs, those over TLS at a venue of their own; return how much went wrong."""
    failed = 0
    for speaks_tls in (False, True):
        if here := [run for run in runs if run.speaks_tls is speaks_tls]:
            with tempfile.TemporaryDirectory(prefix="interop-ca-") as directory:
                ca, lines = certify(Path(directory)) if speaks_tls else (None, [])
                failed += await play_at_one_venue(here, ca, lines)
    return failed


async def play_at_one_venue(runs: list[Run], ca: Path | None, gateway_lines: list[str]) -> int:
    """Play runs at a new venue; return how much went wrong. The venue is kept if something did."""
    symbols = [
        PrivateSymbol(f"I{number:02d}-USD", taker_fee_ppm=FEE_PPM)
        for number in range(1, len(SCENARIOS) + 1)
    ]
    failed = 0
    async with private_venue(
        symbols,
        parent=_ROOT / "var",
        shards=2,
        gateways=2,
        gateway_lines=gateway_lines,
        keeps=lambda: failed > 0,
    ) as venue:
        play = Play(venue, ca)
        for run in runs:
            await play.all_of(run)
        await play.close()
        failed = play.failed
    return failed


def certify(directory: Path) -> tuple[Path, list[str]]:
    """Return a CA's certificate, and the gateways' settings with one that it has signed."""
    authority = Authority(directory)
    cert, key = authority.issue("gateway")
    return authority.cert, [f'tls_cert = "{cert}"', f'tls_key = "{key}"']


def runs_of(engines: list[Engine], scenarios: list[Scenario]) -> list[Run]:
    """Return what there is to play: engines with their dictionaries, with ours, over TLS."""
    over_tls = [one for one in scenarios if one in OVER_TLS]

    def of(engine: Engine) -> list[Scenario]:
        can_all = isinstance(engine, QuickFix)
        return [one for one in scenarios if can_all or one not in ONLY_QUICKFIX]

    return [
        *(Run(engine, engine.dictionary(), of(engine)) for engine in engines),
        *(Run(engine, OURS, of(engine)) for engine in engines),
        *(Run(engine, OURS, over_tls, speaks_tls=True) for engine in engines if over_tls),
    ]


def main() -> int:
    """Run what is asked for."""
    names = [scenario.__name__ for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m tests.interop")
    parser.add_argument("--installed", type=Path, default=_INSTALLED, metavar="FOLDER")
    parser.add_argument("--engine", choices=["quickfix", "jspurefix"])
    parser.add_argument("--only", choices=names, action="append", metavar="NAME", help=str(names))
    args = parser.parse_args()
    engines: list[Engine] = [QuickFix(args.installed), JsPureFix(args.installed)]
    engines = [engine for engine in engines if args.engine in (None, engine.name)]
    missing = [engine.name for engine in engines if not engine.dictionary().exists()]
    if missing:
        print(f"not installed in {args.installed}: {', '.join(missing)}: make interop")
        return 2
    scenarios = [one for one in SCENARIOS if args.only is None or one.__name__ in args.only]
    failed = asyncio.run(play_all(runs_of(engines, scenarios)))
    print(f"interop: {'clean' if not failed else f'{failed} failed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
