"""Deliberate faults: each must be found by a checker, in some world of a few.

A fault is a piece of a script that is replaced, or a piece of production code that is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(frozen=True)
class Breakage:
    """One fault.

    Attributes:
        name: what is broken.
        replaced: pieces of the Lua scripts, as (old, new).
        install: breaks something else in a world.
    """

    name: str
    replaced: tuple[tuple[str, str], ...] = ()
    install: Callable[[World], None] = lambda world: None


SOUND = Breakage("nothing")
POSITIONS_FIRST = Breakage("x")
