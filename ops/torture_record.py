"""What one client was told, and whether that fits together. Pure.

Each message that it sends has exactly one answer; each report comes once; what reports say about an
order follows from what they said before. What a record cannot know, whether it was told everything,
is compared with the venue at the end (torture_checks.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from zlib import crc32

from engine.enums import Side
from ops.torture_lists import OpenLists, Told

WRONG_MAX = 20
"""Complaints kept; more are counted only."""

TEXT_MAX = 500
"""Characters of a complaint that are kept."""

_FINAL = ("2", "4", "C", "8")
_ENVELOPE = frozenset(b"8 9 10 34 49 52 56 43 97 122 1".split())
"""Header and trailer; Account (1), which only copies have."""
_NOT_AVAILABLE = "4"
_GOOD_TILL_DATE = "6"


class Sent(NamedTuple):
    """A message without an answer: its kind, what it is about, and when it was sent (s)."""

    kind: str
    symbol: str
    at_s: float


class Fill(NamedTuple):
    """One side of a trade; decimals as they were told. ``liquidity`` (851): empty in an auction."""

    liquidity: str
    price: str
    quantity: str
    fee: str


class Complaints:
    """What one client was told and should not have been.

    Attributes:
        wrong: it, at most WRONG_MAX.
        wrong_count: how often something came that must not.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.wrong_count = 0

    def complain(self, text: str) -> None:
        """Note something that must not be."""
        self.wrong_count += 1
        if len(self.wrong) < WRONG_MAX:
            self.wrong.append(text[:TEXT_MAX])


def digest_of(fields: Mapping[bytes, bytes], before: int = 0) -> int:
    """Return a digest of what a message says, whoever it is sent to, and however often.

    Args:
        fields: of the message.
        before: digest of the one before, where their order counts.
    """
    said = b"\x01".join(value for tag, value in fields.items() if tag not in _ENVELOPE)
    return crc32(said, before)


class Reports:
    """Digests of reports by ExecID (17), and of refused cancels (35=9) by ClOrdID (11).

    The digest of a report has those about the same order before it in it. A refused cancel names
    the order as it stands when that is rendered, for a copy later: that is left out.
    """

    def __init__(self) -> None:
        self.digests: dict[str, int] = {}
        self._newest: dict[bytes, int] = {}

    def note(self, fields: Mapping[bytes, bytes]) -> bool:
        """Note a report or refused cancel; False if it was noted before."""
        order = fields[b"37"]
        if b"17" in fields:
            name = fields[b"17"].decode()
            digest = digest_of(fields, self._newest.get(order, 0))
            if order != b"NONE":
                self._newest[order] = digest
        else:
            name = f"9 {fields[b'11'].decode()}"
            digest = digest_of({**fields, b"37": b"", b"39": b""})
        is_new = name not in self.digests
        self.digests[name] = digest
        return is_new


class Record(Complaints):
    """The memory of one client.

    Attributes:
        unanswered: id → the messages sent that have no answer yet.
        exec_ids: of all reports but those of lists.
        reports: what all of these said, and all 35=9.
        cancel_rejects: how many 35=9 came.
        orders: OrderID → what was told last.
        open: those of `orders` that rest.
        lists: the lists of open orders that it asked for.
        fills: trade id (527) and side → our side of it.
        answers: how many messages of each kind were answered.
        unavailable: RefSeqNum (45), RefMsgType (372) and id (379) of those answered with 380=4.
        answered_s: symbol → when the newest of the messages was sent that its engine answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unanswered: dict[str, Sent] = {}
        self.exec_ids: set[str] = set()
        self.reports = Reports()
        self.cancel_rejects = 0
        self.orders: dict[str, Told] = {}
        self.open: dict[str, Told] = {}
        self.lists = OpenLists(self.orders, self.open, self.complain)
        self.fills: dict[tuple[str, Side], Fill] = {}
        self.answers: dict[str, int] = {}
        self.unavailable: set[tuple[str, str, str]] = set()
        self.answered_s: dict[str, float] = {}
        self._names: dict[int, str] = {}
        self._mass_cancels: set[str] = set()

    @property
    def expiring(self) -> int:
        """Return how many open orders the clock will end, though nobody sends anything."""
        return sum(told.expires for told in self.open.values())

    def note_sent(self, name: str, msg_seq_num: int, sent: Sent) -> None:
        """Note a message that has been sent; ``name`` is the id in its answer."""
        self.unanswered[name] = sent
        if sent.kind == "q":
            self._mass_cancels.add(name)
        elif sent.kind == "AF":
            self.lists.ask(name, sent.symbol)
        self._names[msg_seq_num] = name

    def note_reset(self) -> None:
        """Note that MsgSeqNums begin at 1 again."""
        self._names.clear()

    def note(self, msg_type: bytes, tagged: Mapping[bytes, bytes]) -> None:
        """Take note of an application message or Reject."""
        fields = {tag.decode(): value.decode() for tag, value in tagged.items()}
        if msg_type == b"8" and "584" in fields:
            if self.lists.take(fields):
                self._answered(fields["584"], fields, "AF")
        elif msg_type == b"8":
            if not self.reports.note(tagged):
                self.complain(f"again: {fields}")
            self._on_report(fields)
        elif msg_type == b"9":
            self.reports.note(tagged)
            self.cancel_rejects += 1
            self._answered(fields["11"], fields, "FG")
        elif msg_type == b"r":
            # One for all is answered at once, and then by each halted symbol that keeps orders.
            if fields["530"] == "1" or "55" not in fields:
                self._answered(fields["11"], fields, "q")
        elif msg_type == b"j" and fields["380"] == _NOT_AVAILABLE:
            refused = (fields["45"], fields["372"], fields.get("379", ""))
            if refused in self.unavailable:
                # Said again once it is on record: the first one is not kept for resends.
                return
            name = self._names.get(int(fields["45"]), "?")
            self.lists.forget(name)
            self._answered(name, fields, "")
            self.unavailable.add(refused)
        else:
            self.complain(f"unexpected: {fields}")

    def _on_report(self, fields: dict[str, str]) -> None:
        exec_type = fields["150"]
        self.exec_ids.add(fields["17"])
        if exec_type == "I":
            self._answered(fields["790"], fields, "H")
            self._check_status(fields)
            return
        if exec_type in ("0", "8"):
            self._answered(fields["11"], fields, "D")
        elif exec_type == "5":
            self._answered(fields["11"], fields, "G")
        elif exec_type == "4" and "41" in fields and fields["11"] not in self._mass_cancels:
            self._answered(fields["11"], fields, "F")
        if fields["37"] != "NONE":
            self._note_order(fields)

    def _note_order(self, fields: dict[str, str]) -> None:
        order_id, exec_type = fields["37"], fields["150"]
        told = Told(
            fields["11"],
            fields["39"],
            int(fields["14"]),
            int(fields["151"]),
            fields["55"],
            Side(int(fields["54"])),
            fields.get("59") == _GOOD_TILL_DATE,
        )
        before = self.orders.get(order_id)
        if (before is None) != (exec_type in ("0", "8")):
            self.complain(f"out of order, after {before}: {fields}")
        if before is not None and (before.status in _FINAL or before.cum > told.cum):
            self.complain(f"out of order, after {before}: {fields}")
        if exec_type == "4" and "41" in fields and before is not None:
            # The report is about the request; the order keeps its ClOrdID.
            told = told._replace(cl_ord_id=before.cl_ord_id)
        self.orders[order_id] = told
        if told.status in _FINAL:
            self.open.pop(order_id, None)
            self.lists.note_done(order_id)
        else:
            self.open[order_id] = told
        if exec_type == "F":
            self._note_fill(before, told, fields)

    def _note_fill(self, before: Told | None, told: Told, fields: dict[str, str]) -> None:
        name, quantity = (fields["527"], told.side), fields["32"]
        if name in self.fills:
            self.complain(f"filled again: {fields}")
        self.fills[name] = Fill(fields.get("851", ""), fields["31"], quantity, fields["137"])
        if before is not None and told.cum != before.cum + int(quantity):
            self.complain(f"a fill is missing after {before}: {fields}")

    def _check_status(self, fields: dict[str, str]) -> None:
        told = self.orders.get(fields["37"])
        said = (fields["39"], int(fields["14"]), int(fields["151"]))
        if told is not None and said != (told.status, told.cum, told.leaves):
            self.complain(f"{told}, but status says {fields}")

    def _answered(self, name: str, fields: dict[str, str], kinds: str) -> None:
        sent = self.unanswered.pop(name, None)
        if sent is None or (kinds and sent.kind not in kinds):
            self.complain(f"not a first answer (to {sent}): {fields}")
            return
        self.answers[sent.kind] = self.answers.get(sent.kind, 0) + 1
        if sent.symbol and sent.kind != "AF" and fields.get("37", "NONE") != "NONE":
            # An order of the book: it is its engine that answered.
            self.answered_s[sent.symbol] = max(self.answered_s.get(sent.symbol, 0.0), sent.at_s)
