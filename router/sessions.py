"""FIX sessions in Redis: who serves one, its numbers, and what was sent.

A session belongs to one gateway at a time (``owner``), for as long as it says so within the TTL.
Each logon raises the session's epoch, and every write names the epoch it was made under: a gateway
that was stuck can store and admit nothing any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from engine.limits import (
    OUT_NUMBERS_LEASE,
    OUTBOX_KEPT_BEHIND_CURSOR,
    SENT_MESSAGES_KEPT,
    SENT_MESSAGES_KEPT_S,
)
from router import keys
from router.dense_ids import entry_number
from router.errors import Fenced, ServerChanged
from router.redis_client import RedisLink
from router.scripts import Script, pack
from router.user_settings import FIELDS, NO_SETTINGS, UserSettings, parse_settings

_LOGON = Script("session_logon")
_RENEW = Script("session_renew")
_LIMIT = Script("session_limit")
_OVERDUE = Script("session_overdue")
_STORE = Script("session_store", bound=True)
_RELEASE = Script("session_release")
_SENT_PAGE = 100


class OnDisconnect(StrEnum):
    """What happens to the orders of an account when its client is gone."""

    AS_SET = ""
    """As the user's settings say."""
    CANCEL = "Y"
    """They are canceled after the grace that the user's settings say; at once if they say none."""
    KEEP = "N"
    UNCHANGED = "keep"
    """Nobody has proved who logs on: what waits for a client that is gone goes on waiting."""


class Opened(msgspec.Struct, frozen=True):
    """The session is the caller's.

    Attributes:
        epoch: to be named in every write.
        number: the incarnation; new at each reset of the sequence numbers.
        next_in: MsgSeqNum expected from the client.
        next_out: MsgSeqNum of the next message to it.
        out_limit: the highest MsgSeqNum that may be sent before ``raise_limit``.
        cursor: the last outbox entry that has been stored as sent.
        open_orders: of the account, as of outbox entry ``counted_to``.
        settings: of the user.
    """

    epoch: int
    number: int
    next_in: int
    next_out: int
    out_limit: int
    cursor: int
    open_orders: int = 0
    counted_to: int = 0
    settings: UserSettings = NO_SETTINGS


class Taken(msgspec.Struct, frozen=True):
    """A gateway serves the session: the first connection is alive."""

    owner: str
    remaining_ms: int


class Disabled(msgspec.Struct, frozen=True):
    """An operator disabled the user."""


class RestoredSince(msgspec.Struct, frozen=True):
    """The venue was restored from a backup since: the client has to ask for a reset."""


Outcome: TypeAlias = Opened | Taken | Disabled | RestoredSince
"""Of a logon."""


class Store(msgspec.Struct, frozen=True, gc=False):
    """Application messages that are about to be sent.

    Args:
        account: the SenderCompID.
        epoch: of the session.
        first, last: their MsgSeqNums, without gaps.
        cursor: the last outbox entry that is reported in them, or before.
        messages: the whole messages, one after the other.
    """

    account: int
    epoch: int
    first: int
    last: int
    cursor: int
    messages: bytes


class SentMessages(msgspec.Struct, frozen=True, gc=False):
    """One stored batch: the messages ``first`` to ``last``, one after the other."""

    first: int
    last: int
    messages: bytes


class Sessions:
    """The FIX sessions of one gateway.

    Every method may be repeated after RedisUnavailable, except ``logon``: repeated, that one may
    find the session taken by itself until the TTL has passed.

    Args:
        link: accounts database.
        owner: unique to the process, such as ``gateway-1:4711:9f3a``.
        ttl_ms: how long a session stays taken without ``renew``.
        daily_reset_s: second of the UTC day at which all sequence numbers are reset; None: never.
    """

    def __init__(
        self, link: RedisLink, *, owner: str, ttl_ms: int, daily_reset_s: int | None = None
    ) -> None:
        self._link = link
        self.owner = owner
        self._ttl_ms = ttl_ms
        self._daily_reset_s = daily_reset_s

    async def logon(
        self,
        account: int,
        *,
        reset: bool,
        on_disconnect: OnDisconnect = OnDisconnect.AS_SET,
    ) -> Outcome:
        """Take an account's session.

        Args:
            account: authenticated.
            reset: ResetSeqNumFlag: a new incarnation, both directions begin at 1.
            on_disconnect: what this Logon says about its end.
        """
        reply = await _LOGON.run(
            self._link,
            account,
            self.owner,
            self._ttl_ms,
            int(reset),
            OUT_NUMBERS_LEASE,
            on_disconnect,
            "" if self._daily_reset_s is None else self._daily_reset_s,
            *FIELDS,
        )
        if reply[0] == b"DISABLED":
            return Disabled()
        if reply[0] == b"TAKEN":
            return Taken(reply[1].decode(), reply[2])
        if reply[0] == b"RESTORED":
            return RestoredSince()
        reply[-1] = parse_settings(reply[-1])
        return Opened(*reply[1:])

    async def renew(self, epochs: Mapping[int, int]) -> list[int]:
        """Prolong all sessions and return the accounts whose session is lost.

        Args:
            epochs: account → epoch of every session that is served.
        """
        if not epochs:
            return []
        flat = [number for pair in epochs.items() for number in pair]
        lost: list[int] = await _RENEW.run(self._link, self._ttl_ms, pack(flat))
        return lost

    async def overdue(self, accounts: Iterable[int]) -> list[int]:
        """Return those accounts whose numbers began before the last daily reset."""
        if self._daily_reset_s is None:
            return []
        reply: list[int] = await _OVERDUE.run(self._link, self._daily_reset_s, pack(list(accounts)))
        return reply

    async def raise_limit(self, account: int, epoch: int, *, out_limit: int) -> int:
        """Lease OUT_NUMBERS_LEASE more numbers and return the new limit.

        Args:
            out_limit: the present one.

        Raises:
            Fenced: the session is not the caller's any more.
        """
        reply = await _LIMIT.run(self._link, account, epoch, out_limit, OUT_NUMBERS_LEASE)
        self._check(reply, account)
        limit: int = reply[1]
        return limit

    async def store(self, stores: Sequence[Store], *, server: str = "") -> list[bool]:
        """Store messages before they are sent; tell for each whether it may be sent, or is fenced.

        A store without messages, its ``last`` below its ``first``, only moves the cursor.

        Per session the last SENT_MESSAGES_KEPT of them are kept, whatever numbers lie between, and
        OUTBOX_KEPT_BEHIND_CURSOR outbox entries behind the cursor.

        Args:
            server: run id of the server that the reported outboxes were read from; empty:
                whichever.

        Raises:
            OutOfMemory: nothing was stored.
            ServerChanged: likewise.
        """
        flat: list[int] = []
        for one in stores:
            flat += (one.account, one.epoch, one.first, one.last, one.cursor)
        reply = await _STORE.run(
            self._link,
            SENT_MESSAGES_KEPT,
            OUTBOX_KEPT_BEHIND_CURSOR,
            pack(flat),
            server,
            *[one.messages for one in stores],
        )
        if reply == [b"SERVER"]:
            raise ServerChanged(f"another server than {server} would have stored messages")
        assert not reply or reply[0] != b"ORDER", f"Invariant: numbers only grow: {reply}"
        return [flag == 1 for flag in reply]

    async def read(self, accounts: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Return epoch and cursor of sessions as the server knows them, 0 of what it does not.

        Raises:
            RedisUnavailable: no reply.
        """
        found = await self._link.pipeline(
            [("HMGET", keys.session(account), "epoch", "cursor") for account in accounts]
        )
        return {
            account: (int(epoch or 0), int(cursor or 0))
            for account, (epoch, cursor) in zip(accounts, found, strict=True)
        }

    async def contest(self, account: int) -> None:
        """Tell all gateways that somebody wants a session that is taken.

        Raises:
            RedisUnavailable: no reply.
        """
        await self._link.call("PUBLISH", keys.CONTROL_CHANNEL, f"contested {account}")

    async def confirm(self, account: int) -> None:
        """Tell all gateways that the client of a contested session is there.

        Raises:
            RedisUnavailable: no reply.
        """
        await self._link.call("PUBLISH", keys.CONTROL_CHANNEL, f"alive {account}")

    async def release(
        self, account: int, epoch: int, *, dealt: int, next_out: int, is_gone: bool = True
    ) -> None:
        """Give a session up; the next logon goes on at these numbers, anywhere.

        Args:
            dealt: the highest MsgSeqNum received in sequence.
            next_out: MsgSeqNum of the message after the last one sent.
            is_gone: its client is gone now, and the grace of its orders begins; else what waits for
                a client that is gone goes on waiting.

        Raises:
            Fenced: the session is not the caller's any more.
        """
        reply = await _RELEASE.run(
            self._link, account, epoch, dealt, next_out, SENT_MESSAGES_KEPT_S, int(is_gone)
        )
        self._check(reply, account)

    async def sent_between(
        self, account: int, number: int, *, begin: int, end: int
    ) -> AsyncIterator[SentMessages]:
        """Yield what was stored of an incarnation's messages, in order, read in pages.

        Batches come whole: the first may begin before ``begin``, the last end behind ``end``.

        Args:
            number: the incarnation.
            begin: BeginSeqNo.
            end: EndSeqNo; 0 = everything.
        """
        key = keys.sent(account, number)
        while True:
            page = await self._link.call("XRANGE", key, f"{begin}-0", "+", "COUNT", _SENT_PAGE)
            for entry_id, fields in page:
                first, last = int(fields[3]), entry_number(entry_id)
                if end and first > end:
                    return
                yield SentMessages(first, last, fields[1])
                begin = last + 1
            if len(page) < _SENT_PAGE:
                return

    def _check(self, reply: list[Any], account: int) -> None:
        if reply[0] == b"FENCED":
            raise Fenced(f"session of account {account}: {self.owner} does not own it any more")
