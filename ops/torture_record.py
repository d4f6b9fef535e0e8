"""What one client was told, and whether that fits together. Pure.

Each message that it sends has exactly one answer; each report comes once; what reports say about an
order follows from what they said before. What a record cannot know, whether it was told everything,
is compared with the venue at the end (torture_checks.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.enums import Side

WRONG_MAX = 20
"""Complaints kept; more are counted only."""

_FINAL = ("2", "4", "C", "8")
_NOT_AVAILABLE = "4"
_GOOD_TILL_DATE = "6"


class Sent(NamedTuple):
    """A message without an answer: its kind, what it is about, and when it was sent (s)."""

    kind: str
    symbol: str
    at_s: float


class Told(NamedTuple):
    """What the last report about an order said; ``expires``: it is good till a date."""

    cl_ord_id: str
    status: str
    cum: int
    leaves: int
    symbol: str
    side: Side
    expires: bool


class Fill(NamedTuple):
    """One side of a trade; decimals as they were told."""

    side: Side
    price: str
    quantity: str
    fee: str


class Record:
    """The memory of one client.

    Attributes:
        unanswered: id → the messages sent that have no answer yet.
        wrong: what must not have come, at most WRONG_MAX.
        wrong_count: how often something came that must not.
        exec_ids: of all reports.
        cancel_rejects: how many 35=9 came.
        orders: OrderID → what was told last.
        open: those of `orders` that rest.
        fills: trade id (527) and LastLiquidityInd (851) → our side of it.
        answers: how many messages of each kind were answered.
        unavailable: RefSeqNum (45), RefMsgType (372) and id (379) of those answered with 380=4.
        answered_s: symbol → when the newest of the messages was sent that its engine answered.
    """

    def __init__(self) -> None:
        self.unanswered: dict[str, Sent] = {}
        self.wrong: list[str] = []
        self.wrong_count = 0
        self.exec_ids: set[str] = set()
        self.cancel_rejects = 0
        self.orders: dict[str, Told] = {}
        self.open: dict[str, Told] = {}
        self.fills: dict[tuple[str, int], Fill] = {}
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
        self._names[msg_seq_num] = name

    def note_reset(self) -> None:
        """Note that MsgSeqNums begin at 1 again."""
        self._names.clear()

    def complain(self, text: str) -> None:
        """Note something that must not be."""
        self.wrong_count += 1
        if len(self.wrong) < WRONG_MAX:
            self.wrong.append(text)

    def note(self, msg_type: bytes, tagged: Mapping[bytes, bytes]) -> None:
        """Take note of an application message or Reject."""
        fields = {tag.decode(): value.decode() for tag, value in tagged.items()}
        if msg_type == b"8":
            self._on_report(fields)
        elif msg_type == b"9":
            self.cancel_rejects += 1
            self._answered(fields["11"], fields, "FG")
        elif msg_type == b"r":
            self._answered(fields["11"], fields, "q")
        elif msg_type == b"j" and fields["380"] == _NOT_AVAILABLE:
            refused = (fields["45"], fields["372"], fields.get("379", ""))
            if refused in self.unavailable:
                # Said again once it is on record: the first one is not kept for resends.
                return
            self._answered(self._names.get(int(fields["45"]), "?"), fields, "")
            self.unavailable.add(refused)
        else:
            self.complain(f"unexpected: {fields}")

    def _on_report(self, fields: dict[str, str]) -> None:
        exec_id, exec_type = fields["17"], fields["150"]
        if exec_id in self.exec_ids:
            self.complain(f"again: {fields}")
        self.exec_ids.add(exec_id)
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
        else:
            self.open[order_id] = told
        if exec_type == "F":
            self._note_fill(before, told, fields)

    def _note_fill(self, before: Told | None, told: Told, fields: dict[str, str]) -> None:
        name, quantity = (fields["527"], int(fields["851"])), fields["32"]
        if name in self.fills:
            self.complain(f"filled again: {fields}")
        self.fills[name] = Fill(told.side, fields["31"], quantity, fields["137"])
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
        if sent.symbol and fields.get("37", "NONE") != "NONE":
            # An order of the book: it is its engine that answered.
            self.answered_s[sent.symbol] = max(self.answered_s.get(sent.symbol, 0.0), sent.at_s)
