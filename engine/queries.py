"""How orders stand: status requests, and messages that came before. Pure.

An order is known by its present ClOrdID, by those that a replace took over from, and by that of the
request that canceled it, for as long as `engine.open_order` remembers; by its OrderID (37) alone as
well, because the ClOrdID of a report may be that of a mass cancel, which names no one order.

A D, F or G with PossResend=Y (97) that the account sent before changes nothing, whatever is wrong
with it by now: it is answered like a status request. It is decided here, at the message's place in
the stream, so that the first one has been dealt with, though nobody may know its answer yet. One
that never came is dealt with as new; where its gateway would refuse it, a query comes in its place.
"""

from __future__ import annotations

from engine import reports
from engine.commands import CancelOrder, NewOrder, QueryOrder, ReplaceOrder
from engine.enums import Side
from engine.open_order import DoneOrder, OpenOrder
from engine.trading import Trading
from engine.turn import Turn


def find_known(
    state: Trading, account: int, cl_ord_id: str, order_seq: int
) -> OpenOrder | DoneOrder | None:
    """Return the order that has, or had, a ClOrdID, or that has an OrderID; or None.

    Where both are known they must be of the same order.

    Args:
        state: Of the symbol.
        account: Whose order it must be.
        cl_ord_id: Of any message that was taken for the order.
        order_seq: From the OrderID; 0 where none was given.
    """
    orders = state.accounts.get(account)
    if orders is None:
        return None
    named = orders.open.get(cl_ord_id) or orders.done.get(cl_ord_id)
    if isinstance(named, OpenOrder):
        return named if order_seq in (0, named.order_id) else None
    if isinstance(named, DoneOrder):
        return named if order_seq in (0, named.order_seq) else None
    if named is not None and order_seq not in (0, named):
        return None
    seq = named or order_seq
    if not seq:
        return None
    order = state.book.orders.get(seq) or state.stops.orders.get(seq)
    if order is not None:
        return order if order.owner == account else None
    done = (one for one in orders.done.values() if isinstance(one, DoneOrder))
    return next((one for one in done if one.order_seq == seq), None)


def answer_query(state: Trading, turn: Turn, query: QueryOrder) -> None:
    """Answer a status request, or what was sent in place of a refused message."""
    found = find_known(state, query.account, query.cl_ord_id, query.order_seq)
    refusal = query.refusal
    if found is not None or refusal is None:
        reports.status_reported(turn, query, found)
        return
    orig = state.find(query.account, refusal.orig_cl_ord_id, 0)
    reports.resend_refused(turn, query, refusal, orig)


def answer_resend(
    state: Trading, turn: Turn, command: NewOrder | CancelOrder | ReplaceOrder
) -> bool:
    """Answer a message that came before by how its order stands; False: it did not."""
    orders = state.accounts.get(command.account)
    if not command.poss_resend or orders is None or not orders.has_used(command.cl_ord_id):
        return False
    account, cl_ord_id = command.account, command.cl_ord_id
    query = QueryOrder(
        account, command.session, command.msg_seq_num, cl_ord_id, 0, Side.BUY, ord_status_req_id=""
    )
    reports.status_reported(turn, query, find_known(state, account, cl_ord_id, 0))
    return True
