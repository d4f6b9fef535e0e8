"""Trading phases from outside: an operator's, or the schedule's, change as a command of the symbol.

The change is an input like any other, so engines, replays and the journal see it at one place among
the orders. What came of it stands in the output of the same number.
"""

from __future__ import annotations

import msgspec

from engine.commands import SetPhase, encode_command
from engine.enums import PhaseReason, TradingPhase
from engine.limits import PHASE_REQUEST_KEPT_S
from router.errors import HomeMismatch, Uncleared
from router.homes import Home
from router.redis_client import RedisLink
from router.scripts import Script

_SET_PHASE = Script("set_phase", before=("cleared",))
_NOT_SCHEDULED = 0
_NO_REQUEST = ""


class PhaseRequest(msgspec.Struct, frozen=True):
    """One change that somebody asks for.

    Attributes:
        home: of the symbol.
        phase: the one to change to.
        name: unlike that of any other request, so that the same one again counts once.
    """

    home: Home
    phase: TradingPhase
    name: str


class PlacedChange(msgspec.Struct, frozen=True):
    """The command that a change became.

    Attributes:
        seq: of the command.
        last_seq: of the newest change of the symbol's phase; above ``seq`` where a request was
            repeated and another change has been made since.
    """

    seq: int
    last_seq: int


async def request_phase(link: RedisLink, request: PhaseRequest) -> PlacedChange:
    """Have a symbol change its phase, once per request.

    A request that is made again within ``PHASE_REQUEST_KEPT_S`` has no second effect, whatever
    changed since.

    Args:
        link: accounts database.

    Raises:
        HomeMismatch: the symbol is not what the request says; nothing was done.
        Uncleared, RedisUnavailable: make the same request again.
        OutOfMemory: nothing was done.
    """
    command = SetPhase(request.phase, PhaseReason.OPERATOR)
    placed = await _run(link, request.home, command, request.name, _NOT_SCHEDULED)
    assert placed is not None, "Invariant: only scheduled changes may be made already"
    return placed


async def schedule_phase(
    link: RedisLink, home: Home, phase: TradingPhase, *, scheduled_us: int
) -> bool:
    """Make a scheduled change, unless it or a later one has been made; return whether it was.

    Args:
        link: accounts database.
        scheduled_us: when it should happen, in µs since 1970 UTC; its identity.

    Raises:
        HomeMismatch: the symbol is not what ``home`` says; nothing was done.
        Uncleared, RedisUnavailable: make the same call again.
        OutOfMemory: nothing was done.
    """
    command = SetPhase(phase, PhaseReason.SCHEDULE)
    return await _run(link, home, command, _NO_REQUEST, scheduled_us) is not None


async def _run(
    link: RedisLink, home: Home, command: SetPhase, request: str, scheduled_us: int
) -> PlacedChange | None:
    reply = await _SET_PHASE.run(
        link,
        home.symbol,
        home.db,
        home.incarnation,
        encode_command(command),
        request,
        scheduled_us,
        PHASE_REQUEST_KEPT_S,
    )
    if reply[0] == b"UNCLEARED":
        raise Uncleared(reply[1])
    if reply[0] == b"HOME":
        raise HomeMismatch(f"{home.symbol}: its home is not {home.incarnation}")
    return PlacedChange(reply[1], reply[2]) if reply[0] == b"OK" else None
