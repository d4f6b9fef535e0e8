"""What a client has sent, to be sent again when the venue asks. Pure."""

from __future__ import annotations

SENT_KEPT = 20_000
"""Application messages kept for a ResendRequest; older ones are gap-filled, and so never happen."""


class SentMessages:
    """The newest application messages by MsgSeqNum, but for those that the venue has refused.

    What the venue refused because it was not available (35=j, 380=4) has been answered, and is not
    sent again.
    """

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: dict[int, bytes] = {}

    def clear(self) -> None:
        """Forget everything: numbers begin anew."""
        self._sent.clear()

    def add(self, msg_seq_num: int, data: bytes) -> None:
        """Keep a message, whose number is above all before it."""
        self._sent[msg_seq_num] = data
        if len(self._sent) > SENT_KEPT:
            del self._sent[next(iter(self._sent))]

    def note_refused(self, msg_seq_num: int, ref_id: bytes) -> None:
        """Take note that a message was refused as not available.

        A refusal comes once more when the venue has it on record. By then numbers may have begun
        anew: it is about a message of ours only if that has the id, too.

        Args:
            msg_seq_num: RefSeqNum (45).
            ref_id: BusinessRejectRefID (379): what the message has in its id field.
        """
        if b"=%b\x01" % ref_id in self._sent.get(msg_seq_num, b""):
            del self._sent[msg_seq_num]

    def between(self, begin: int, end: int) -> list[tuple[int, bytes]]:
        """Return what can be sent again of a range, both ends included."""
        return [entry for entry in self._sent.items() if begin <= entry[0] <= end]
