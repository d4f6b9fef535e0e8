"""Admission: from a gateway into the streams, reserved and once (``scripts/admit.lua``).

Whatever gets an answer passes here, in the order in which it arrived, in batches with one call in
flight. If the reply is lost, the same batch is sent again, unchanged, before anything else: the
script skips what it has dealt with, by MsgSeqNum per FIX session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.instrument import AMOUNT_MAX
from engine.limits import ADMISSION_BATCH_MAX
from router.errors import HomeMismatch, OutOfMemory, RulesChanged, Uncleared
from router.homes import Home
from router.keys import ACCOUNTS_DB
from router.redis_client import RedisLink, retry_while_away
from router.scripts import Script, pack
from router.user_settings import log_full_outboxes

_ADMIT = Script("admit", before=("cleared", "streams", "copies"))

_PUBLISH, _REFUSE, _PUBLISH_UNLESS_BACKLOG, _CANCEL_EVERYWHERE, _LIST_OPEN_ORDERS = range(5)
"""Kinds of items. Beyond: a command that may wait, and the place among the arguments of what is
published in its stead where there is no money for it; such a place is above all of these."""

_BEFORE_ITEMS = 3
"""Arguments before those of the items."""

REFUSED = 0
"""A RefuseItem, or a command that was not published: the answer, or why, stands in the outbox."""
SKIPPED = -1
"""Dealt with by an earlier call, whose reply may have been lost: counts as admitted."""
ANSWERED = -3
"""A mass request: its answer stands in the outbox."""
FENCED = -2
"""The session belongs to another gateway, or another epoch: nothing was done, nor may be sent."""


class PublishItem(msgspec.Struct, frozen=True, gc=False):
    """A command for a symbol's stream.

    Args:
        account: the SenderCompID.
        epoch: of the account's FIX session.
        msg_seq_num: of the message that the command came from.
        symbol: which stream.
        command: encoded.
        asset: what to reserve ``amount`` of; empty = nothing.
        amount: in the asset's smallest unit.
        rules_version: that the command was made under; 0 for one that depends on none (F, H).
        may_wait: it is published however many inputs the symbol's engine has before it.
        instead: a command that is published where what this one reserves is not available; empty:
            it is refused then. One that has it may wait.
    """

    account: int
    epoch: int
    msg_seq_num: int
    symbol: str
    command: bytes
    asset: str = ""
    amount: int = 0
    rules_version: int = 0
    may_wait: bool = True
    instead: bytes = b""


class RefuseItem(msgspec.Struct, frozen=True, gc=False):
    """A refusal for the account's outbox: an encoded ``Output`` with seq 0 and one event."""

    account: int
    epoch: int
    msg_seq_num: int
    output: bytes


class MassCancelItem(msgspec.Struct, frozen=True, gc=False):
    """A mass cancel of all symbols (35=q, 530=7).

    Its answer goes into the account's outbox, its command into the stream of every symbol in which
    the account may have orders: all but those that are settled to their end and in which it has no
    open order.

    Args:
        answer: an encoded ``Output`` with seq 0 and one ``MassCancelReported``.
        command: the encoded ``MassCancel``.
    """

    account: int
    epoch: int
    msg_seq_num: int
    answer: bytes
    command: bytes


class MassStatusItem(msgspec.Struct, frozen=True, gc=False):
    """A mass status request (35=AF): the account's open orders are put into its outbox.

    Args:
        request: the encoded request, for whoever renders the answer.
        symbol: of one symbol only; empty: of all.
        side: of one side (54) only; 0: of both.
    """

    account: int
    epoch: int
    msg_seq_num: int
    request: bytes
    symbol: str = ""
    side: int = 0


AdmissionItem = PublishItem | RefuseItem | MassCancelItem | MassStatusItem


class Admission:
    """The way in; one per gateway.

    Args:
        link: accounts database, for nothing else.
        homes: every symbol's home; may be replaced by newer ones at any time.
        backlog_max: inputs of a symbol that may wait for its engine; with so many, a command that
            may not wait is refused.

    Attributes:
        available: False while Redis does not answer or is not cleared (``clearance.py``); a batch
            that is under way waits, new messages should be refused with 380=4 meanwhile.
    """

    def __init__(self, link: RedisLink, homes: Mapping[str, Home], *, backlog_max: int) -> None:
        self._link = link
        self.homes = homes
        self._backlog_max = backlog_max
        self.available = True
        self._in_flight = False

    async def admit(self, items: Sequence[AdmissionItem]) -> list[int]:
        """Admit a batch and return, for each item, its seq (> 0) or one of the constants above.

        Waits while Redis is away or not cleared, for as long as that takes. Where a shard alone is
        not cleared, its commands are refused. Cancelled, or ended by an error other
        than those below, the batch may or may not have been admitted.

        Args:
            items: at most ADMISSION_BATCH_MAX, in the order in which they arrived.

        Raises:
            OutOfMemory: nothing was written: answer the new messages among them with 380=4.
            RulesChanged: nothing was written: read the homes again, translate, admit.
            HomeMismatch: nothing was written: this gateway is configured for another exchange.
        """
        assert not self._in_flight, "Invariant: one admission call in flight"
        assert 1 <= len(items) <= ADMISSION_BATCH_MAX, "Invariant: an admission batch is bounded"
        args = self._pack(items)
        self._in_flight = True
        try:
            reply = await retry_while_away(
                lambda: self._run(args), what="admission", on_change=self._on_change
            )
        except OutOfMemory:
            self.available = True
            raise
        finally:
            self._in_flight = False
        if reply[0] == b"RULES":
            raise RulesChanged(reply[1].decode(), reply[2])
        if reply[0] == b"HOME":
            symbol = reply[1].decode()
            raise HomeMismatch(f"{symbol}: its home is not {self.homes[symbol].incarnation}")
        *results, full = reply
        log_full_outboxes(full)
        return results

    async def _run(self, args: Sequence[Any]) -> list[Any]:
        reply: list[Any] = await _ADMIT.run(self._link, *args)
        if reply[0] == b"UNCLEARED":
            raise Uncleared(ACCOUNTS_DB)
        return reply

    def _on_change(self, available: bool) -> None:
        self.available = available

    def _pack(self, items: Sequence[AdmissionItem]) -> list[Any]:
        versions: dict[str, int] = {}
        for item in items:
            if type(item) is PublishItem:
                version = item.rules_version or versions.get(item.symbol, 0)
                before = versions.setdefault(item.symbol, version) or version
                assert before == version, "Invariant: a batch knows one version of a symbol's rules"
                versions[item.symbol] = version
            elif type(item) is MassCancelItem:
                versions = {symbol: versions.get(symbol, 0) for symbol in self.homes}
        homes = sorted((self.homes[symbol] for symbol in versions), key=_db_and_name)
        index = {home.symbol: number for number, home in enumerate(homes, 1)}
        symbols: list[str | int] = []
        for home in homes:
            symbols += (home.symbol, home.db, home.incarnation, versions[home.symbol])
        meta: list[str | int] = []
        args: list[Any] = [pack(symbols), self._backlog_max, b""]
        behind: list[bytes] = []
        for item in items:
            meta += (0, item.account, item.epoch, item.msg_seq_num)
            if isinstance(item, PublishItem):
                amount = item.amount
                assert 0 <= amount <= AMOUNT_MAX, "Invariant: an amount fits in 2^62"
                meta[-4] = _PUBLISH if item.may_wait else _PUBLISH_UNLESS_BACKLOG
                if item.instead:
                    behind.append(item.instead)
                    meta[-4] = _BEFORE_ITEMS + len(items) + len(behind)
                meta += (index[item.symbol], item.asset if amount else "", str(amount))
                args.append(item.command)
            elif isinstance(item, RefuseItem):
                meta[-4] = _REFUSE
                meta += (0, "", "")
                args.append(item.output)
            elif isinstance(item, MassCancelItem):
                behind.append(item.command)
                meta[-4] = _CANCEL_EVERYWHERE
                meta += (_BEFORE_ITEMS + len(items) + len(behind), "", "")
                args.append(item.answer)
            else:
                meta[-4] = _LIST_OPEN_ORDERS
                meta += (0, item.symbol, str(item.side) if item.side else "")
                args.append(item.request)
        args[2] = pack(meta)
        return args + behind


def _db_and_name(home: Home) -> tuple[int, str]:
    return home.db, home.symbol
