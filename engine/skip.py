"""What becomes of an input that an operator passes over. Pure.

Nothing but its reservation: a new order or a replacement that decodes gets back what admission had
moved to pending. Whoever sent the input is answered as if it had been refused, so that no client
waits for ever and no ClOrdID stays in flight: a new order by its rejection, a cancel or replacement
by an OrderCancelReject that says how the order stands, and a status request or mass cancel by a
BusinessMessageReject, because what it asked for could not be done (FIX 4.4, volume 2, "Business
Message Reject": a message that is understood but cannot be processed, and has no reject of its
own). A mass cancel of all symbols was answered where it came in; what is skipped of it is told.
"""

from __future__ import annotations

from engine import reports
from engine.commands import (
    CancelAll,
    CancelOrder,
    DefineSymbol,
    MassCancel,
    NewOrder,
    QueryOrder,
    ReplaceOrder,
    SetPhase,
    Tick,
    decode_command,
)
from engine.enums import BusinessRejectReason, CxlRejReason, OrdRejReason, Side
from engine.errors import DecodeError
from engine.events import BusinessRejected, CancelRejected, OrderRejected, Skipped
from engine.matching import Matcher
from engine.turn import AVAILABLE, BASE, PENDING, QUOTE, Turn

SKIPPED_TEXT = "Skipped by an operator"
"""Begins the text of every answer; the operator's reason follows."""

_ORDER_STATUS_REQUEST = "H"
_ORDER_MASS_CANCEL_REQUEST = "q"
_Request = NewOrder | CancelOrder | ReplaceOrder | QueryOrder | MassCancel
_Unanswered = CancelAll | Tick | SetPhase


def skip(turn: Turn, matcher: Matcher, payload: bytes, reason: str) -> None:
    """Append the one event of a skipped input to its turn, and free what it reserved."""
    command = _decode(payload)
    if command is None or isinstance(command, _Unanswered):
        turn.events.append(Skipped(0, 0, "", reason, None))
        return
    if isinstance(command, NewOrder | ReplaceOrder):
        asset = QUOTE if command.side == Side.BUY else BASE
        moves = turn.moves(command.account)
        moves[asset + PENDING] -= command.reserved
        moves[asset + AVAILABLE] += command.reserved
    answer = _answer(turn.seq, matcher, command, f"{SKIPPED_TEXT}: {reason}")
    turn.events.append(Skipped(0, command.account, command.cl_ord_id, reason, answer))


def _decode(payload: bytes) -> _Request | _Unanswered | None:
    # None: it is no command. A definition passed over would leave the symbol under other rules
    # than those that admission has, so nobody may ask for that.
    try:
        command = decode_command(payload)
    except DecodeError:
        return None
    assert not isinstance(command, DefineSymbol), "Invariant: a definition is never skipped"
    return command


def _answer(
    seq: int,
    matcher: Matcher,
    command: _Request,
    text: str,
) -> OrderRejected | CancelRejected | BusinessRejected:
    if isinstance(command, QueryOrder | MassCancel):
        is_query = isinstance(command, QueryOrder)
        return BusinessRejected(
            index=0,
            account=command.account,
            ref_seq_num=command.msg_seq_num,
            ref_msg_type=_ORDER_STATUS_REQUEST if is_query else _ORDER_MASS_CANCEL_REQUEST,
            ref_id=command.cl_ord_id,
            reason=BusinessRejectReason.OTHER,
            text=text,
        )
    answer = Turn(seq)
    if isinstance(command, NewOrder):
        reports.rejected(answer, command, OrdRejReason.OTHER, text)
    else:
        found = matcher.find(command.account, command.orig_cl_ord_id, command.order_seq)
        reports.cancel_rejected(answer, command, found, CxlRejReason.OTHER, text)
    (event,) = answer.events
    assert isinstance(event, OrderRejected | CancelRejected), "Invariant: an answer refuses"
    return event
