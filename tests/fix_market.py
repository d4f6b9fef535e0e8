"""What a client makes of market data over FIX: W and X applied to books of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.fix_dictionary import rule_of
from gateway.fix_message import encode_fields, frame
from gateway.fix_messages import MESSAGES
from gateway.validate import fault_of

Pairs = Sequence[tuple[bytes, bytes]]
Level = tuple[str, str, int]
"""Price, total and number of orders."""
Order = tuple[str, str, str]
"""OrderID, price and quantity."""

_RULES = {kind: rule_of(MESSAGES[kind]) for kind in (b"W", b"X", b"Y", b"f", b"h", b"j", b"y")}
_HEADER = ((b"49", b"SHARDEX"), (b"56", b"7"), (b"34", b"2"), (b"52", b"20260102-03:04:05"))
_FIRST_TAGS = {b"W": b"269", b"X": b"279"}


class FixMarket:
    """One symbol as one subscription tells it.

    Attributes:
        trades: (price, quantity) of each trade told, oldest first.
        notes: Text (58) of trades that is no side: what was omitted.
        snapshots, refreshes: how many of each came.
    """

    def __init__(self) -> None:
        self.trades: list[tuple[str, str]] = []
        self.trade_ids: list[str] = []
        self.notes: list[str] = []
        self.snapshots = self.refreshes = 0
        self._entries: dict[str, dict[str, dict[str, str]]] = {"0": {}, "1": {}}

    def apply(self, msg_type: bytes, pairs: Pairs) -> None:
        """Take one message, as (tag, value) from MsgType on, in order."""
        entries = list(groups(pairs, _FIRST_TAGS[msg_type]))
        assert int(dict(pairs)[b"268"]) == len(entries)
        if msg_type == b"W":
            self.snapshots += 1
            self._entries = {"0": {}, "1": {}}
        else:
            self.refreshes += 1
        for entry in entries:
            if entry["269"] == "2":
                self._trade(entry)
            else:
                self._change(entry)

    def levels(self, side: str) -> list[Level]:
        """Return the levels of a side (269), best first."""
        rows = [(row["270"], row["271"], int(row["346"])) for row in self._entries[side].values()]
        return sorted(rows, key=lambda row: float(row[0]), reverse=side == "0")

    def orders(self, side: str) -> list[Order]:
        """Return the orders of a side (269), first in priority first."""
        rows = [(name, row["270"], row["271"]) for name, row in self._entries[side].items()]
        return sorted(rows, key=lambda row: float(row[1]), reverse=side == "0")

    def levels_are_crossed(self) -> bool:
        """Tell whether a bid is at or above an offer."""
        bids, offers = ([float(row["270"]) for row in self._entries[s].values()] for s in "01")
        return bool(bids and offers) and max(bids) >= min(offers)

    def _trade(self, entry: dict[str, str]) -> None:
        if entry["58"] in ("buy", "sell", "auction"):
            self.trades.append((entry["270"], entry["271"]))
            self.trade_ids.append(entry.get("278") or entry["299"])
        else:
            self.notes.append(entry["58"])

    def _change(self, entry: dict[str, str]) -> None:
        side = self._entries[entry["269"]]
        key = entry.get("278") or entry.get("37") or entry["270"]
        action = entry.get("279", "0")
        if action == "2":
            del side[key]
        elif action == "1":
            assert key in side
            side[key] = entry
        else:
            assert key not in side, f"new, but known: {entry}"
            side[key] = entry


def check_valid(msg_type: bytes, pairs: Pairs) -> None:
    """Assert that fields, as they stand behind the header, are a message by our own dictionary."""
    raw = frame(encode_fields([(b"35", msg_type), *_HEADER, *pairs]))
    fault = fault_of(raw, _RULES[msg_type])
    assert fault is None, f"{fault}: {raw!r}"


def groups(pairs: Pairs, first: bytes) -> Iterable[dict[str, str]]:
    """Yield the entries of a group that begin with a tag and go on to the end of the message."""
    entry: dict[str, str] = {}
    for tag, value in pairs:
        if tag == first:
            if entry:
                yield entry
            entry = {}
        if entry or tag == first:
            if tag == b"10":
                break
            entry[tag.decode()] = value.decode()
    if entry:
        yield entry
