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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from tests.interop import (
    scenarios_conditions,
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
]


@dataclass(frozen=True)
class Run:
    """All scenarios with one engine and one dictionary."""

    engine: Engine
    dictionary: Path

    @property
    def name(self) -> str:
        """As it is printed."""
        return f"{self.engine.name} with {self.dictionary.name}"


async def play(run: Run, scenario: Scenario, venue: PrivateVenue, users: Users) -> str:
    """Play one scenario; return what was wrong, or nothing."""
    symbol = venue.endpoints.symbols[SCENARIOS.index(scenario)]
    with tempfile.TemporaryDirectory(prefix="interop-") as directory:
        stage = Stage(venue, users, run.engine, run.dictionary, symbol, Path(directory))
        try:
            async with asyncio.timeout(SCENARIO_TIMEOUT_S), staged(stage):
                await scenario(stage)
        except (AssertionError, TimeoutError, OSError) as error:
            return "; ".join([f"{type(error).__name__}: {error}", *stage.findings()])
    return ""


async def play_all(runs: list[Run], scenarios: list[Scenario]) -> int:
    """Play everything at one venue; return how much went wrong."""
    symbols = [
        PrivateSymbol(f"I{number:02d}-USD", taker_fee_ppm=FEE_PPM)
        for number in range(1, len(SCENARIOS) + 1)
    ]
    failed = 0
    async with private_venue(
        symbols, parent=_ROOT / "var", shards=2, gateways=2, keeps=lambda: failed > 0
    ) as venue:
        users = Users(venue)
        for run in runs:
            for scenario in scenarios:
                began_s = time.monotonic()
                wrong = await play(run, scenario, venue, users)
                failed += bool(wrong)
                mark = "FAILED" if wrong else "ok"
                took_s = time.monotonic() - began_s
                print(f"{mark:6} {run.name:38} {scenario.__name__:50} {took_s:5.1f} s", flush=True)
                if wrong:
                    print(f"       {wrong}", flush=True)
        await users.close()
        if failed:
            print(f"kept: {venue.settings.var_dir.parent}")
    return failed


def runs_of(engines: list[Engine]) -> list[Run]:
    """Return each engine with its own dictionary and, where there is one, with ours."""
    own = [Run(engine, engine.dictionary()) for engine in engines]
    return own + [Run(engine, OURS) for engine in engines if OURS.exists()]


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
    failed = asyncio.run(play_all(runs_of(engines), scenarios))
    print(f"interop: {'clean' if not failed else f'{failed} failed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
