"""Lists of open orders: what cannot be true of them, while trading and at rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.enums import Side
from ops.torture_lists import OpenLists, Told

SYMBOL = "ALFA-USD"


def told(name: str, cum: int = 0, status: str = "0") -> Told:
    return Told(name, status, cum, 5 - cum, SYMBOL, Side.BUY, False)


class Client:
    """A client that believes orders 1 and 2 to be open, and has asked for list a."""

    def __init__(self) -> None:
        self.orders = {"1": told("1"), "2": told("2", 2, "1")}
        self.open = dict(self.orders)
        self.wrong: list[str] = []
        self.lists = OpenLists(self.orders, self.open, self.wrong.append)
        self.lists.ask("a", "")

    def done(self, order: str) -> None:
        self.orders[order] = self.open.pop(order)._replace(status="4")
        self.lists.note_done(order)

    def take(self, *lines: Told, total: int | None = None, name: str = "a") -> bool:
        """Take a list; ExecIDs go on."""
        is_complete, count = False, len(lines) if total is None else total
        for index, one in enumerate(lines):
            fields = {"17": f"m-{len(self.lists.exec_ids)}", "37": one.cl_ord_id, "584": name}
            fields |= {"11": one.cl_ord_id, "39": one.status, "14": f"{one.cum}", "55": one.symbol}
            last = "Y" if index + 1 == len(lines) else "N"
            fields |= {"151": f"{one.leaves}", "911": f"{count}", "912": last}
            is_complete = self.lists.take(fields)
        return is_complete


def test_a_list_that_is_what_the_client_believes_is_right() -> None:
    client = Client()
    assert client.take(told("1"), told("2", 2, "1"))
    assert not client.wrong and not list(client.lists.differences())


def test_what_happens_between_request_and_answer_may_be_in_it_or_not() -> None:
    client = Client()
    client.done("1")
    # Order 1 was open when the list was made, or not; 3 is told later.
    assert client.take(told("1"), told("2", 3, "1"), told("3"))
    client.orders |= {"2": told("2", 3, "1"), "3": told("3")}
    client.open |= {"2": told("2", 3, "1"), "3": told("3")}
    client.lists.ask("b", "")
    assert client.take(told("2", 3, "1"), told("3"), name="b")
    assert not client.wrong and not list(client.lists.differences())


def test_none_are_listed_as_a_line_without_an_order() -> None:
    client = Client()
    client.done("1")
    client.done("2")
    none = {"17": "m-0", "37": "NONE", "584": "a", "911": "0", "912": "Y"}
    assert client.lists.take(none)
    assert not client.wrong and not list(client.lists.differences())


def _done_before(client: Client) -> None:
    client.done("1")
    client.lists.ask("b", "")
    client.take(told("1"), told("2", 2, "1"), name="b")


@pytest.mark.parametrize(
    ("happens", "complaint"),
    [
        (_done_before, "listed, though done before"),
        (lambda client: client.take(told("1"), told("2", 1, "1")), "listed with less"),
        (lambda client: client.take(told("1"), total=2), "1 orders were listed, not all"),
        (lambda client: client.take(told("1"), told("1")), "listed twice"),
        (lambda client: client.take(told("1"), name="x"), "a list that nobody waits for"),
    ],
)
def test_what_cannot_be_is_complained_of(
    happens: Callable[[Client], object], complaint: str
) -> None:
    client = Client()
    happens(client)
    assert any(text.startswith(complaint) for text in client.wrong), client.wrong


@pytest.mark.parametrize(
    ("lines", "difference"),
    [
        ((told("1"),), "2 was not listed"),
        ((told("1"), told("2", 2, "1"), told("3")), "3 was listed as"),
        ((told("1"), told("2", 3, "1")), "2 was listed as"),
        ((told("1"), told("2", 2, "0")), "2 is listed as"),
    ],
)
def test_what_did_not_come_true_is_a_difference_at_rest(
    lines: tuple[Told, ...], difference: str
) -> None:
    client = Client()
    client.take(*lines)
    found = list(client.lists.differences())
    assert any(text.startswith(difference) for text in found), found
