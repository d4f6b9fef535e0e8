"""What a client has sent, to be sent again when the venue asks. Pure."""

from __future__ import annotations

from collections import deque

SENT_KEPT = 20_000
"""Application messages kept for a ResendRequest; older ones are gap-filled, and so never happen."""


class SentMessages:
    """The newest application messages by MsgSeqNum, and which of them the venue has refused.

    What the venue refused because it was not available (35=j, 380=4) has been answered, and is not
    sent again.
    """

    __slots__ = ("_refused", "_sent")

    def __init__(self) -> None:
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=SENT_KEPT)
        self._refused: set[int] = set()

    def clear(self) -> None:
        """Forget everything: numbers begin anew."""
        self._sent.clear()
        self._refused.clear()

    def add(self, msg_seq_num: int, data: bytes) -> None:
        """Keep a message."""
        self._sent.append((msg_seq_num, data))

    def note_refused(self, msg_seq_num: int) -> None:
        """Take note that a message was refused as not available."""
        if not self._sent:
            return
        self._refused.add(msg_seq_num)
        if len(self._refused) > SENT_KEPT:
            oldest = self._sent[0][0]
            self._refused = {number for number in self._refused if number >= oldest}

    def between(self, begin: int, end: int) -> list[tuple[int, bytes]]:
        """Return what can be sent again of a range, both ends included."""
        refused = self._refused
        return [
            entry for entry in self._sent if begin <= entry[0] <= end and entry[0] not in refused
        ]
