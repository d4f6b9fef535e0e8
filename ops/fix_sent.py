"""What a client has sent, to be sent again when the venue asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping

SENT_KEPT = 20_000
"""Application messages kept for a ResendRequest; older ones are gap-filled, and so never happen."""

_REF_SEQ_NUM = b"45"
_BUSINESS_REJECT_REF_ID = b"379"
_BUSINESS_REJECT_REASON = b"380"
_NOT_AVAILABLE = b"4"


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

    def note_refusal(self, fields: Mapping[bytes, bytes]) -> None:
        """Forget the message that a BusinessMessageReject (35=j) refuses as not available.

        Such a refusal comes once more when the venue has it on record. By then numbers may have
        begun anew: it is about a message of ours only if that has the id, too.

        Args:
            fields: of the BusinessMessageReject.
        """
        number, ref_id = int(fields[_REF_SEQ_NUM]), fields.get(_BUSINESS_REJECT_REF_ID, b"")
        is_ours = b"=%b\x01" % ref_id in self._sent.get(number, b"")
        if is_ours and fields[_BUSINESS_REJECT_REASON] == _NOT_AVAILABLE:
            del self._sent[number]

    def between(self, begin: int, end: int) -> list[tuple[int, bytes]]:
        """Return what can be sent again of a range, both ends included."""
        return [entry for entry in self._sent.items() if begin <= entry[0] <= end]
