"""One applied input as it is committed: encoded once, split by account. Pure.

The engine encodes each event once. The same bytes stand in the ``Output`` for ``events:{symbol}``
and in the ``Output`` of each account that the event is about (``outbox:{account}``), which has only
that account's events and no changes. Account 0 takes the fees; it has no outbox.
"""

from __future__ import annotations

import msgspec

from engine.events import BalanceChange
from engine.shard import Applied
from engine.turn import OpenUpdate

_ENCODER = msgspec.msgpack.Encoder()
_encode = _ENCODER.encode
FEE_ACCOUNT = 0


class _RawOutput(msgspec.Struct, array_like=True, gc=False):
    """An ``Output`` whose events are encoded already; the same bytes come out."""

    symbol: str
    seq: int
    ts_us: int
    events: list[msgspec.Raw]
    changes: list[BalanceChange]


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What a commit needs of one input.

    Attributes:
        symbol, seq: the input.
        event: the whole encoded Output.
        changes: the balances it moves.
        reports: account and encoded Output for its outbox; accounts in the order of their events.
        opens: changed open orders.
        best_bid_ticks, best_ask_ticks: of the book afterwards; 0 = none.
    """

    symbol: str
    seq: int
    event: bytes
    changes: list[BalanceChange]
    reports: list[tuple[int, bytes]]
    opens: list[OpenUpdate]
    best_bid_ticks: int
    best_ask_ticks: int


def encode_settlement(applied: Applied) -> Settlement:
    """Return what is to be committed of an applied input."""
    output = applied.output
    raw_events: list[msgspec.Raw] = []
    by_account: dict[int, list[msgspec.Raw]] = {}
    for event in output.events:
        raw = msgspec.Raw(_encode(event))
        raw_events.append(raw)
        account = getattr(event, "account", FEE_ACCOUNT)
        if account != FEE_ACCOUNT:
            by_account.setdefault(account, []).append(raw)
    symbol, seq, ts_us = output.symbol, output.seq, output.ts_us
    return Settlement(
        symbol,
        seq,
        _encode(_RawOutput(symbol, seq, ts_us, raw_events, output.changes)),
        output.changes,
        [
            (account, _encode(_RawOutput(symbol, seq, ts_us, events, [])))
            for account, events in by_account.items()
        ],
        applied.opens,
        applied.best_bid_ticks,
        applied.best_ask_ticks,
    )
