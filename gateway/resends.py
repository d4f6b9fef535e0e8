"""Old messages once more: what a ResendRequest (35=2) asks for, out of the store of sent ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.connection import Connection
from gateway.fix_framer import FixFramer
from router.redis_client import retry_while_away
from router.sessions import SentMessages, Sessions


async def resend_stored(
    connection: Connection,
    sessions: Sessions,
    *,
    stored: Callable[[Connection, int], Awaitable[None]],
    begin: int,
    end: int,
    now_ns: Callable[[], int],
) -> None:
    """Send old messages again, page by page, and fill the gaps between them.

    Waits while Redis is away. Ends where the session does, or begins a new incarnation.

    Args:
        stored: waits until no message of a connection up to a MsgSeqNum is being stored.
        begin, end: MsgSeqNums, both included.
        now_ns: the clock.
    """
    number, session = connection.number, connection.session
    await stored(connection, end)

    def give(messages: list[tuple[int, bytes]], last: int) -> bool:
        nonlocal begin
        if connection.number != number or not session.can_resend:
            return False
        session.resend(messages, begin, last, now_ns=now_ns())
        begin = last + 1
        connection.settle()
        return True

    async def give_stored() -> None:
        pages = sessions.sent_between(connection.account, number, begin=begin, end=end)
        async for sent in pages:
            last = min(sent.last, end)
            if last >= begin and not give(split_stored(sent), last):
                return
            await connection.writable()

    await retry_while_away(give_stored, what=f"resend for session {connection.account}")
    if begin <= end:
        give([], end)


def split_stored(sent: SentMessages) -> list[tuple[int, bytes]]:
    """Return the messages of a stored batch with their MsgSeqNums."""
    size = len(sent.messages)
    framer = FixFramer(max_message_bytes=size, max_garbled_bytes=0)
    framer.receive_data(sent.messages)
    messages = list(iter(framer.next_message, None))
    assert len(messages) == sent.last - sent.first + 1, "Invariant: a batch is stored whole"
    return list(zip(range(sent.first, sent.last + 1), messages, strict=True))
