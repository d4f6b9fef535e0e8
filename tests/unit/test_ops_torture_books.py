"""A subscriber's books from W and X alone, and what does not fit."""

from __future__ import annotations

import pytest

from engine.enums import Side
from gateway.fix_message import frame
from ops.torture_books import BookBroken, Subscription, WatchedBook, read_entries

Message = tuple[bytes, list[dict[str, str]]]

LEVELS = [
    "269=0|270=9.50|271=3|346=2",
    "269=0|270=10.00|271=1|346=1",
    "269=1|270=11.00|271=4|346=1",
]


def message(kind: str, *entries: str, count: int | None = None) -> Message:
    """Return MsgType and entries, as they are read from a whole message."""
    said = len(entries) if count is None else count
    text = "|".join([f"35={kind}", "34=7", "262=a", "55=A", f"268={said}", *entries])
    raw = frame(text.replace("|", "\x01").encode() + b"\x01")
    return kind.encode(), read_entries(raw, is_refresh=kind == "X")


def book(*messages: Message) -> WatchedBook:
    one = WatchedBook()
    for msg_type, entries in messages:
        one.apply(msg_type, entries)
    return one


def test_levels_follow_snapshot_and_refreshes_best_first() -> None:
    one = book(message("W", *LEVELS))
    assert one.rows(Side.BUY) == [("10.00", "1", "1"), ("9.50", "3", "2")]
    refresh = [
        "279=2|269=0|55=A|270=10.00",
        "279=1|269=0|55=A|270=9.50|271=2|346=1",
        "279=0|269=1|55=A|270=10.50|271=5|346=3",
    ]
    one.apply(*message("X", *refresh))
    assert one.rows(Side.BUY) == [("9.50", "2", "1")]
    assert one.rows(Side.SELL) == [("10.50", "5", "3"), ("11.00", "4", "1")]
    one.apply(*message("W"))
    assert one.is_known and one.rows(Side.SELL) == []


def test_orders_of_a_price_stand_in_the_order_in_which_they_came() -> None:
    one = book(
        message("W", "269=0|270=9|271=3|37=A-5", "269=0|270=9|271=1|37=A-7"),
        message("X", "279=2|269=0|278=A-5|55=A|270=9", "279=0|269=0|278=A-5|55=A|270=9|271=2"),
    )
    assert one.rows(Side.BUY) == [("A-7", "9", "1"), ("A-5", "9", "2")]


TRADE = "279=0|269=2|278=A-{}|55=A|270=9|271=1|58=buy"
WRONG = [
    (message("X", "279=2|269=0|55=A|270=9.00"), "action 2"),
    (message("X", "279=1|269=0|55=A|270=9.00|271=1|346=1"), "action 1"),
    (message("X", "279=0|269=0|55=A|270=9.50|271=1|346=1"), "action 0"),
    (message("X", TRADE.format("9-1"), TRADE.format("9-1")), "a trade after"),
    (message("X", TRADE.format("9-1"), TRADE.format("8-2")), "a trade after"),
]


@pytest.mark.parametrize(("wrong", "text"), WRONG)
def test_what_does_not_fit_is_refused(wrong: Message, text: str) -> None:
    with pytest.raises(BookBroken, match=text):
        book(message("W", *LEVELS), wrong)


def test_a_refresh_without_snapshot_and_a_wrong_count_are_refused() -> None:
    with pytest.raises(BookBroken, match="before the snapshot"):
        book(message("X", TRADE.format("9-1")))
    with pytest.raises(BookBroken, match="3 entries, 4 said"):
        message("W", *LEVELS, count=4)


def test_a_request_says_how_it_wants_the_book() -> None:
    body = Subscription("orders", 0, True, True).request("orders-1", ["A", "B"])
    assert body.replace(b"\x01", b"|") == (
        b"262=orders-1|263=1|264=0|265=1|266=N|267=3|269=0|269=1|269=2|146=2|55=A|55=B|"
    )
