"""What is done to which part, and when: drawn from a seed alone. Pure but for the random numbers.

An operator's changes of trading phases are drawn here, too: each scene begins and ends continuous.

Every part comes up once per round, so that a short run has them all; Redis, on which everything
depends, and the engines come up twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.enums import TradingPhase

KILL = "kill"
PAUSE = "pause"
RESTART = "restart"
FAILOVER = "failover"

WAIT_MIN_S = 0.3
WAIT_MAX_S = 2.5
PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 5.0
AT_ONCE_MAX = 4

SCENE_WAIT_MIN_S = 1.0
SCENE_WAIT_MAX_S = 5.0
PHASE_MIN_S = 0.3
PHASE_MAX_S = 3.0
SCENES = (
    (TradingPhase.HALTED, TradingPhase.CONTINUOUS),
    (TradingPhase.HALTED, TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS),
    (TradingPhase.PRE_OPEN, TradingPhase.OPENING_AUCTION),
    (TradingPhase.PRE_OPEN, TradingPhase.HALTED, TradingPhase.CONTINUOUS),
    (TradingPhase.CANCEL_ONLY, TradingPhase.CONTINUOUS),
    (TradingPhase.CANCEL_ONLY, TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS),
    (TradingPhase.CLOSED, TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS),
)
"""Phases one after the other. All that opens goes through the auction, which ends by itself."""

_PAUSED, _RESTARTED, _AT_ONCE, _FAILOVER = 0.2, 0.3, 0.42, 0.48
_PAUSE_AMONG_SEVERAL = 0.2


class Blow(NamedTuple):
    """One thing done to one part. ``seconds``: how long a pause lasts."""

    action: str
    part: str
    seconds: float = 0.0


class Step(NamedTuple):
    """What is done at once, ``wait_s`` after the step before is over."""

    wait_s: float
    blows: tuple[Blow, ...]


class Scene(NamedTuple):
    """Phases of one symbol, ``wait_s`` after the scene before; with how long each lasts, in s."""

    wait_s: float
    symbol: str
    phases: tuple[tuple[TradingPhase, float], ...]


def draw_scenes(choose: random.Random, symbols: Sequence[str]) -> Iterator[Scene]:
    """Yield scenes without end, each of SCENES once a round.

    Args:
        choose: decides.
        symbols: whose phases change.
    """
    while True:
        for phases in choose.sample(SCENES, len(SCENES)):
            yield Scene(
                round(choose.uniform(SCENE_WAIT_MIN_S, SCENE_WAIT_MAX_S), 2),
                choose.choice(list(symbols)),
                tuple(
                    (phase, round(choose.uniform(PHASE_MIN_S, PHASE_MAX_S), 2)) for phase in phases
                ),
            )


def draw_plan(
    choose: random.Random, parts: Sequence[str], leaders: Sequence[str]
) -> Iterator[Step]:
    """Yield steps without end.

    Args:
        choose: decides.
        parts: names; a name that stands there twice comes up twice as often.
        leaders: what can be asked to hand over; none where nobody stands by.
    """
    deck: list[str] = []
    while True:
        wait_s = round(choose.uniform(WAIT_MIN_S, WAIT_MAX_S), 2)
        draw = choose.random()
        several = min(choose.randint(2, AT_ONCE_MAX), len(set(parts)))
        count = several if _RESTARTED <= draw < _AT_ONCE else 1
        if _AT_ONCE <= draw < _FAILOVER and leaders:
            yield Step(wait_s, (Blow(FAILOVER, choose.choice(list(leaders))),))
            continue
        names: list[str] = []
        while len(names) < count:
            if not deck:
                deck = list(parts)
                choose.shuffle(deck)
            if (name := deck.pop()) not in names:
                names.append(name)
        if draw < _PAUSED:
            yield Step(wait_s, (_pause(choose, names[0]),))
        elif draw < _RESTARTED:
            yield Step(wait_s, (Blow(RESTART, names[0]),))
        else:
            yield Step(wait_s, tuple(_blow(choose, name, count) for name in names))


def _blow(choose: random.Random, name: str, count: int) -> Blow:
    if count > 1 and choose.random() < _PAUSE_AMONG_SEVERAL:
        return _pause(choose, name)
    return Blow(KILL, name)


def _pause(choose: random.Random, name: str) -> Blow:
    return Blow(PAUSE, name, round(choose.uniform(PAUSE_MIN_S, PAUSE_MAX_S), 2))
