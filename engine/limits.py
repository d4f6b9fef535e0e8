"""Every size limit of the system that is not a setting, with its reason and what happens at it.
Pure.

Waits, ports and batch ages are settings (each package's ``settings.py``); what must agree between
processes, or what a proof depends on, stands here. The relations are asserted at import.
"""

from __future__ import annotations

CL_ORD_ID_LENGTH_MAX = 36
"""Characters of a ClOrdID (a UUID as text); a longer one is refused: Reject 373=5."""

RECENT_CL_ORD_IDS_MAX = 1_000
"""Done orders per account and symbol whose ClOrdID is still refused as a duplicate (103=6).

The engine keeps them in memory and in snapshots: 1,000 × some 100 bytes per account and symbol at
most. A ClOrdID older than that may be used again."""

OPEN_ORDERS_PER_ACCOUNT_MAX = 10_000
"""Open orders of one account in one symbol; the next one is refused with 103=3.

Bounds ``open:{account}`` and the work of a CancelAll, which is one output."""

ADMISSION_BATCH_MAX = 512
"""Messages in one admission call: some 3 ms of Redis' one thread at 6 µs each."""

READ_BATCH_MAX = 512
"""Entries that one XREAD asks for per stream: a consumer that is behind takes them in such
bites."""

COMMIT_BATCH_MAX = 256
"""Outputs in one settle and publish call: some 2.5 ms of Redis' one thread at 10 µs each."""

MATCHES_PER_ORDER_MAX = 10_000
"""Resting orders that one incoming order can meet; what it has left then is canceled like the rest
of an IOC order (150=C), and a FOK order that would need more is killed."""

EXPIRIES_PER_INPUT_MAX = 10_000
"""Orders whose time has come that one input takes out before it is applied itself. The others leave
with the next inputs, a Tick of the leading engine where nothing else comes; until then nothing
matches (`engine.phases`)."""

STOP_TRIGGERS_PER_INPUT_MAX = 100
"""Stop orders that one input triggers; the others are triggered by the next inputs, likewise."""

STOP_TRIGGERS_EVENTS_MAX = 10_000
"""Events of an output from which on it triggers no more stop orders: the next inputs do."""

AUCTION_TRADES_PER_INPUT_MAX = 5_000
"""Trades of an opening auction in one input, fewer where the input has done much itself; the others
follow with the next inputs, a Tick of the leading engine where nothing else comes."""

OUTPUT_EVENTS_MAX = 40_002
"""Events of one output: expiries, and an acceptance, three per resting order met (two fills and a
refill) and a cancel; or expiries and a CancelAll; or triggers up to their limit and a last order
that was triggered."""

RING_SLOTS = 4_096
"""Slots of a gateway's, an engine's and market data's ring; a power of two. Full: the producer
stops reading."""

JOURNAL_SEGMENT_BYTES_MAX = 64 << 20
"""Bytes of one journal segment, which is read as a whole; the batch that would go beyond it begins
the next segment."""

JOURNAL_FRAME_BYTES_MAX = (1 << 32) - 1
"""Bytes of one batch in a journal: its length is a u32. More is a bug of the caller (asserted)."""

JOURNAL_PENDING_RECORDS_MAX = 65_536
"""Records that wait in memory while the disk is busy, seconds of full load. Full: the writer
refuses more with JournalWriteFailed."""

OUT_NUMBERS_LEASE = 1_000
"""MsgSeqNums that a gateway leases at once for a session; a successor after a crash starts behind
them."""

SENT_MESSAGES_KEPT = 20_000
"""Messages in a session's store of sent ones, some 5 MB; a ResendRequest for older ones is answered
with a gap fill. Numbers of messages that are not stored, as all market data, do not count. They go
in batches and by quarters of this number, so up to a quarter, and two batches, more may be there.
"""

SENT_MESSAGES_KEPT_S = 7 * 86_400
"""Seconds from the end of a session until its store of sent messages goes, unless it logs on again:
accounts that never return cost nothing for ever. A ResendRequest is answered with a gap fill then.
"""

OUTBOX_KEPT_BEHIND_CURSOR = 1_000
"""Entries of an outbox kept after their reports have been stored as sent.

What is ahead of the cursor is never trimmed: nobody has told it to the account yet. That is bounded
too. An account that is away sends nothing, so its outbox gets one entry per fill or cancel of the
orders that were open when it left, at most one per lot of theirs, and `status` warns of a long one;
new orders are refused while memory is nearly used up, so it stops growing then. How many that are
is not limited otherwise: a fill that is not told would be lost. Copies are
(OUTBOX_WITH_COPIES_MAX)."""

OUTBOX_WITH_COPIES_MAX = OUTBOX_KEPT_BEHIND_CURSOR + 100_000
"""Entries of an outbox, sent and not sent, with which it takes no more copies of others' reports.

Some 30 MB. Those that it does not take are counted, `status` calls it a problem, and the user is
told how many are missing, at that place among its reports (35=j), when it has got all before them;
from then on it gets copies again. Nobody else notices. Stands in copies.lua too."""

PHASE_REQUEST_KEPT_S = 86_400
"""Seconds for which an operator's request for another trading phase is known again by its name.
Repeated later it would count as a new one; `shardex phase` repeats it for an hour at most."""

DEPOSIT_REF_LENGTH_MAX = 64
"""Characters of a deposit's or withdrawal's --ref."""

SKIP_REASON_LENGTH_MAX = 200
"""Characters of the reason for which an operator skips a command; it stands in the answer's Text
(58). A longer one is refused."""

SYMBOL_LENGTH_MAX = 20
"""Characters of a symbol's name: A–Z, 0–9, and ``-`` (FIX clients and key names see it)."""

assert EXPIRIES_PER_INPUT_MAX + 2 + 3 * MATCHES_PER_ORDER_MAX <= OUTPUT_EVENTS_MAX, (
    "Invariant: an order is one output"
)
assert STOP_TRIGGERS_EVENTS_MAX + 2 + 3 * MATCHES_PER_ORDER_MAX <= OUTPUT_EVENTS_MAX, (
    "Invariant: a cascade of stop orders is cut so that it is one output"
)
assert EXPIRIES_PER_INPUT_MAX + 1 + OPEN_ORDERS_PER_ACCOUNT_MAX <= OUTPUT_EVENTS_MAX, (
    "Invariant: a mass cancel is one output"
)
assert 3 * EXPIRIES_PER_INPUT_MAX + 1 <= OUTPUT_EVENTS_MAX, (
    "Invariant: a close, what was due before it, day orders and those at the opening are one output"
)
assert 2 * EXPIRIES_PER_INPUT_MAX + 2 + 4 * AUCTION_TRADES_PER_INPUT_MAX <= OUTPUT_EVENTS_MAX, (
    "Invariant: a part of an auction, what was due before it and what ends with it are one output"
)
assert RING_SLOTS & (RING_SLOTS - 1) == 0, "Invariant: a ring has a power of two of slots"
assert ADMISSION_BATCH_MAX <= RING_SLOTS, "Invariant: a whole admission batch fits in the ring"
assert COMMIT_BATCH_MAX <= RING_SLOTS, "Invariant: a whole commit batch fits in the ring"
