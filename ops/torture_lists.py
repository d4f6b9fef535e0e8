"""The lists of open orders (35=AF) that one client asked for, and whether they can be true. Pure.

A list says what is settled when the venue deals with the request, which is at some time between the
moment it is sent and its answer; the reports of what happened meanwhile come before or after. So,
at any time:

- an order that was told done before the list was asked for is not in it;
- one that was told open before is in it, with no less filled; or else it was done by then, and the
  client will be told so;
- what is in it the client has been told of, or will be, with no less filled in the end.

At rest a list of everything is exactly what the client believes to be open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from engine.enums import Side


class Told(NamedTuple):
    """What the last report about an order said; ``expires``: it is good till a date."""

    cl_ord_id: str
    status: str
    cum: int
    leaves: int
    symbol: str
    side: Side
    expires: bool


class Listed(NamedTuple):
    """What a list says about one order."""

    cl_ord_id: str
    status: str
    cum: int
    leaves: int


class _Asked(NamedTuple):
    """A list that is awaited: its number, what was open, and what has come of it."""

    number: int
    symbol: str
    open: Mapping[str, Told]
    listed: dict[str, Listed]


class OpenLists:
    """See the head of this file.

    Args:
        orders: OrderID → what the client was told last; kept up to date by its owner.
        open_orders: those of them that rest, likewise.
        complain: called with what cannot be true.

    Attributes:
        exec_ids: of all lines of lists.
        newest: the last list that was complete.
        count: how many were.
    """

    def __init__(
        self,
        orders: Mapping[str, Told],
        open_orders: Mapping[str, Told],
        complain: Callable[[str], None],
    ) -> None:
        self._orders = orders
        self._open = open_orders
        self._complain = complain
        self._asked: dict[str, _Asked] = {}
        self._asked_count = 0
        self._done_at: dict[str, int] = {}
        self._must_be_done: set[str] = set()
        self._seen: dict[str, Listed] = {}
        self.exec_ids: set[str] = set()
        self.newest: dict[str, Listed] = {}
        self.count = 0

    def ask(self, name: str, symbol: str) -> None:
        """Note that a list is asked for now; of all symbols where it is empty."""
        self._asked_count += 1
        rest = {
            order_id: told for order_id, told in self._open.items() if symbol in ("", told.symbol)
        }
        self._asked[name] = _Asked(self._asked_count, symbol, rest, {})

    def forget(self, name: str) -> None:
        """Note that there will be no list of this name."""
        self._asked.pop(name, None)

    def note_done(self, order_id: str) -> None:
        """Note that an order has been told done."""
        self._done_at[order_id] = self._asked_count

    def take(self, fields: Mapping[str, str]) -> bool:
        """Take one line; return whether the list is complete with it."""
        if fields["17"] in self.exec_ids:
            self._complain(f"listed again: {fields}")
        self.exec_ids.add(fields["17"])
        asked = self._asked.get(fields["584"])
        if asked is None:
            self._complain(f"a list that nobody waits for: {fields}")
            return False
        if fields["37"] != "NONE":
            self._take_order(asked, fields)
        if fields["912"] != "Y":
            return False
        if len(asked.listed) != int(fields["911"]):
            self._complain(f"{len(asked.listed)} orders were listed, not all: {fields}")
        self._judge(self._asked.pop(fields["584"]))
        return True

    def differences(self) -> Iterator[str]:
        """Yield, at rest, what lists have said that did not come true, and of the newest what is
        not exactly what the client believes to be open."""
        for order_id in sorted(self._must_be_done & self._open.keys()):
            yield f"{order_id} was not listed, and is {self._open[order_id]}"
        for order_id, listed in self._seen.items():
            told = self._orders.get(order_id)
            if told is None or told.cum < listed.cum:
                yield f"{order_id} was listed as {listed}, and told {told}"
        believed = {
            order_id: Listed(one.cl_ord_id, one.status, one.cum, one.leaves)
            for order_id, one in self._open.items()
        }
        for order_id in sorted(believed.keys() | self.newest.keys()):
            if believed.get(order_id) != self.newest.get(order_id):
                yield (
                    f"{order_id} is listed as {self.newest.get(order_id)},"
                    f" and told {believed.get(order_id)}"
                )

    def _take_order(self, asked: _Asked, fields: Mapping[str, str]) -> None:
        order_id = fields["37"]
        if order_id in asked.listed or asked.symbol not in ("", fields["55"]):
            self._complain(f"listed twice, or not asked for: {fields}")
        listed = Listed(fields["11"], fields["39"], int(fields["14"]), int(fields["151"]))
        asked.listed[order_id] = listed
        self._seen[order_id] = listed
        if self._done_at.get(order_id, asked.number) < asked.number:
            self._complain(f"listed, though done before it was asked for: {fields}")
        before = asked.open.get(order_id)
        if before is not None and listed.cum < before.cum:
            self._complain(f"listed with less than was told before, {before}: {fields}")

    def _judge(self, asked: _Asked) -> None:
        self.count += 1
        self.newest = asked.listed
        self._must_be_done |= asked.open.keys() - asked.listed.keys()
