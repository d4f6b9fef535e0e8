"""MarketDesk: requests and rounds, for a client on a transport that only records."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.enums import Side
from engine.events import Event
from gateway import market_desk, market_subscriptions
from gateway.connection import Connection
from gateway.fix_time import NS_PER_SECOND
from gateway.market_book import MarketBook
from gateway.market_desk import MarketDesk
from gateway.market_refusals import symbols_asked_for
from gateway.market_subscriptions import UNWRITTEN_BYTES_MAX
from gateway.session_events import AppMessage
from gateway.symbol_texts import SymbolTable
from router.market_state import OrdersSnapshot, PhaseStatus
from tests.fix_market import check_valid
from tests.market_events import SYMBOL, accepted, defined, output, rules, trade
from tests.unit.test_gateway_connection import World as Client
from tests.unit.test_gateway_orders_in import fix

REQUEST = "35=V|262={}|263={}|264=0|265=1|267=2|269=0|269=2|146=1|55=BTC-USD"


def book_of(symbol: str = SYMBOL) -> MarketBook:
    event = defined(rules(symbol=symbol))
    return MarketBook(OrdersSnapshot(symbol, 1, "server", event, [], None))  # type: ignore[arg-type]


def phase(name: str, seq: int, symbol: str = SYMBOL) -> PhaseStatus:
    return PhaseStatus(symbol, seq, 5_000_000, name, "operator")


class World:
    """A desk, one client that is logged on, and one book."""

    def __init__(self, *, requests_per_s_max: int = 100) -> None:
        self.client = Client(requests_per_s_max=requests_per_s_max)
        self.connection = self.client.log_on()
        self.numbers: list[Connection] = []
        self.wanted: list[str] = []
        self.desk = MarketDesk(
            SymbolTable([rules(), rules(symbol="ETH-USD")]),
            subscriptions_max=3,
            now_ns=lambda: self.client.now_ns,
            on_numbers=self.numbers.append,
            on_wanted=self.wanted.append,
        )
        self.book = book_of()
        self.seq = 1
        self.client.transport.written.clear()

    def send(self, text: str) -> list[str]:
        """Hand over a request; return what is sent at once."""
        message = fix(text)
        self.desk.handle(self.connection, AppMessage(message.raw, message, 2, False, False, None))
        return self.sent()

    def round(self) -> list[str]:
        """Let a round go by; return what is sent."""
        for client in self.desk.clients():
            self.desk.flush(client)
        return self.sent()

    def happen(self, *events: Event) -> None:
        self.seq += 1
        self.book.note([output(self.seq, *events)])
        self.book.apply(1)

    def buy(self) -> None:
        self.happen(accepted(self.seq + 1, Side.BUY, 100, 5))

    def sent(self) -> list[str]:
        """Return the messages since the last call, as MsgType and the text behind the header."""
        data, self.client.transport.written[:] = b"".join(self.client.transport.written), []
        texts = []
        for message in data.split(b"8=FIX.4.4\x01")[1:]:
            pieces = message.decode().split("\x01")
            fields = [tuple(piece.encode().split(b"=", 1)) for piece in pieces[6:-2]]
            if pieces[1] != "35=8":
                check_valid(pieces[1][3:].encode(), fields)  # type: ignore[arg-type]
            texts.append(f"{pieces[1][3:]} {'|'.join(pieces[6:-2])}")
        return texts


@pytest.fixture
async def world() -> AsyncIterator[World]:
    yield World()


async def test_subscription_gets_a_snapshot_and_then_changes(world: World) -> None:
    assert world.send(REQUEST.format("r1", 1)) == []
    assert world.wanted == [SYMBOL]
    assert world.round() == []
    world.desk.take_book(world.book)
    assert world.round() == ["W 262=r1|55=BTC-USD|268=0"]
    assert world.round() == []
    world.buy()
    [message] = world.round()
    assert message == "X 262=r1|268=1|279=0|269=0|55=BTC-USD|270=1.00|271=0.5|346=1"
    assert world.desk.wanted() == {SYMBOL}
    world.send(REQUEST.format("r1", 2))
    world.buy()
    assert world.round() == []
    assert world.desk.wanted() == set()


async def test_snapshot_request_is_over_when_each_symbol_was_told(world: World) -> None:
    world.send("35=V|262=r1|263=0|264=0|267=1|269=0|146=2|55=BTC-USD|55=ETH-USD")
    world.desk.take_book(world.book)
    assert world.round() == ["W 262=r1|55=BTC-USD|268=0"]
    world.buy()
    assert world.round() == []
    world.desk.take_book(book_of("ETH-USD"))
    assert world.round() == ["W 262=r1|55=ETH-USD|268=0"]
    assert world.desk.subscriptions == 0


async def test_ids_in_use_and_too_many_symbols_are_refused(world: World) -> None:
    world.send(REQUEST.format("r1", 1))
    [message] = world.send(REQUEST.format("r1", 1))
    assert message.startswith("Y 262=r1|281=1|")
    world.send(REQUEST.format("r2", 1))
    world.send(REQUEST.format("r3", 1))
    [message] = world.send(REQUEST.format("r4", 1))
    assert message == "Y 262=r4|281=2|58=A session may be subscribed to 3 symbols"
    [message] = world.send(REQUEST.format("r9", 2))
    assert message == "Y 262=r9|58=MDReqID (262): there is no such subscription"


async def test_reader_that_does_not_keep_up_is_left_out_and_then_told_all_at_once(
    world: World,
) -> None:
    world.desk.take_book(world.book)
    world.send(REQUEST.format("r1", 1))
    world.round()
    world.client.transport.waiting_bytes = UNWRITTEN_BYTES_MAX + 1
    for _ in range(3):
        world.buy()
        assert world.round() == []
    world.client.transport.waiting_bytes = 0
    [message] = world.round()
    assert message == "X 262=r1|268=1|279=0|269=0|55=BTC-USD|270=1.00|271=1.5|346=3"


async def test_reader_that_is_left_out_for_long_gets_a_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_subscriptions, "ROUNDS_BEHIND_MAX", 2)
    world.desk.take_book(world.book)
    world.send(REQUEST.format("r1", 1))
    world.round()
    world.client.transport.waiting_bytes = UNWRITTEN_BYTES_MAX + 1
    for _ in range(3):
        world.buy()
        world.round()
    world.happen(accepted(5, Side.SELL, 100, 5), *trade(5, 2, Side.SELL, 100, 5))
    world.client.transport.waiting_bytes = 0
    [message] = world.round()
    assert message.startswith("W 262=r1|55=BTC-USD|268=2|")
    assert message.endswith("|299=BTC-USD-5-0|58=sell")


async def test_more_than_a_share_is_sent_in_turns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_desk, "ROUND_BYTES_MAX", 1)
    world.desk.take_book(world.book)
    world.desk.take_book(book_of("ETH-USD"))
    world.send(REQUEST.format("r1", 1))
    world.send("35=V|262=r2|263=0|264=0|267=1|269=0|146=2|55=BTC-USD|55=ETH-USD")
    told = [world.round() for _ in range(4)]
    assert told == [
        ["W 262=r1|55=BTC-USD|268=0"],
        ["W 262=r2|55=BTC-USD|268=0"],
        ["W 262=r2|55=ETH-USD|268=0"],
        [],
    ]
    assert world.desk.subscriptions == 1


async def test_want_of_numbers_is_told_and_nothing_is_lost(world: World) -> None:
    session = world.connection.session
    world.desk.take_book(world.book)
    while session.out_remaining:
        session.send_application(b"8", b"58=x\x01", now_ns=world.client.now_ns)
    world.connection.settle()
    world.sent()
    assert world.send("35=x|320=l1|559=2") == []
    world.send(REQUEST.format("r1", 1))
    assert world.round() == []
    assert world.numbers
    assert world.connection.numbers_wanted == 1
    session.extend_out_limit(session.next_out + 10, now_ns=world.client.now_ns)
    assert world.round() == ["y 320=l1|322=0-2|560=1", "W 262=r1|55=BTC-USD|268=0"]


async def test_who_asks_on_without_numbers_is_logged_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_desk, "ANSWERS_MAX", 2)
    session = world.connection.session
    while session.out_remaining:
        session.send_application(b"8", b"58=x\x01", now_ns=world.client.now_ns)
    for _ in range(3):
        world.send("35=x|320=l1|559=2")
    assert not session.can_send


async def test_round_behind_a_batch_that_is_being_stored_is_the_only_one(world: World) -> None:
    world.desk.take_book(world.book)
    world.send(REQUEST.format("r1", 1))
    world.round()
    session = world.connection.session
    session.send_application(b"8", b"58=report\x01", now_ns=world.client.now_ns)
    batch = world.connection.hold_output()
    for _ in range(3):
        world.buy()
        assert world.round() == []
    world.connection.storing_from = 0
    world.connection.release_output(batch)
    told = world.sent()
    assert [message[0] for message in told] == ["8", "X"]
    assert told[1].endswith("|271=0.5|346=1")
    assert world.round()[0].endswith("|271=1.5|346=3")


async def test_an_unknown_session_is_named_in_ascii(world: World) -> None:
    [message] = world.send("35=g|335=t1|336=\u20ac|263=0")
    assert message.startswith("h 335=t1|336=\\xe2\\x82\\xac|340=6|567=1|")


async def test_book_made_anew_is_told_as_a_snapshot(world: World) -> None:
    world.desk.take_book(world.book)
    world.send(REQUEST.format("r1", 1))
    world.round()
    world.happen(accepted(3, Side.BUY, 100, 5))
    world.happen(accepted(4, Side.SELL, 100, 5), *trade(4, 3, Side.SELL, 100, 5))
    world.round()
    world.desk.drop_book(SYMBOL)
    world.book = book_of()
    world.happen(accepted(5, Side.BUY, 100, 5), accepted(6, Side.SELL, 100, 1))
    world.happen(*trade(7, 5, Side.SELL, 100, 1))
    world.desk.take_book(world.book)
    [message] = world.round()
    assert message.startswith("W 262=r1|")
    assert message.endswith("58=trades may have been omitted")


async def test_phases_are_told_and_told_again_when_they_change(world: World) -> None:
    [message] = world.send("35=e|324=s1|55=BTC-USD|263=1")
    assert message.startswith("j 45=2|372=e|379=s1|380=4|")
    world.desk.take_phase(phase("continuous", 0))
    assert world.send("35=e|324=s1|55=BTC-USD|263=1")[0].startswith("f 324=s1|55=BTC-USD|")
    assert world.send("35=g|335=g1|336=BTC-USD|263=1")[0].startswith("h 335=g1|336=BTC-USD|")
    assert world.round() == []
    world.desk.take_phase(phase("halted", 7))
    world.desk.take_phase(phase("continuous", 3))
    told = world.round()
    assert [message.split("|")[0] for message in told] == ["f 324=s1", "h 335=g1"]
    assert all("|625=HALTED|325=Y|" in message for message in told)
    assert world.round() == []
    world.desk.reset_phase(phase("continuous", 3))
    assert len(world.round()) == 2
    assert world.send("35=e|324=s1|55=BTC-USD|263=1")[0].startswith("j 45=2|372=e|379=s1|380=0|")
    assert world.send("35=e|324=s1|55=BTC-USD|263=2") == []
    assert world.send("35=e|324=s1|55=BTC-USD|263=2")[0].startswith("j 45=2|372=e|379=s1|380=1|")


async def test_unknown_symbols_and_sessions_are_named(world: World) -> None:
    assert world.send("35=e|324=s1|55=XRP-USD|263=0")[0].startswith("f 324=s1|55=XRP-USD|326=20|")
    assert world.send("35=g|335=g1|336=XRP-USD|263=0")[0].startswith(
        "h 335=g1|336=XRP-USD|340=6|567=1|"
    )


async def test_list_names_every_symbol(world: World) -> None:
    world.desk.take_phase(phase("halted", 7))
    [message] = world.send("35=x|320=l1|559=4")
    assert message.startswith("y 320=l1|322=0-2|560=0|393=2|893=Y|146=2|55=BTC-USD|870=8|")
    assert "|15=USD|561=0.1|562=0.1|336=BTC-USD|625=HALTED|55=ETH-USD|" in message
    assert world.send("35=x|320=l2|559=0|55=ETH-USD")[0].count("|55=") == 1
    assert world.send("35=x|320=l3|559=0|55=XRP-USD") == ["y 320=l3|322=0-2|560=2"]
    assert world.send("35=x|320=l4|559=4|263=1") == ["y 320=l4|322=0-2|560=1"]


async def test_subscriptions_end_with_the_connection_and_with_a_reset(world: World) -> None:
    world.desk.take_book(world.book)
    world.send(REQUEST.format("r1", 1))
    world.connection.number += 1
    assert world.round() == []
    assert world.desk.subscriptions == 0
    world.send(REQUEST.format("r1", 1))
    world.connection.connection_lost(None)
    assert world.round() == []
    assert world.desk.subscriptions == 0


REQUESTS = {
    # request: how many symbols it asks for, of two
    REQUEST.format("r1", 1): 1,
    "35=V|262=r1|263=0|264=0|267=1|269=0|146=2|55=BTC-USD|55=ETH-USD": 2,
    "35=x|320=r1|559=4": 2,
    "35=x|320=r1|559=0|55=ETH-USD": 1,
    "35=e|324=r1|55=ETH-USD|263=1": 1,
    "35=g|335=r1|263=0": 2,
    "35=g|335=r1|336=ETH-USD|263=0": 1,
    REQUEST.format("r1", 2): 0,
    "35=e|324=r1|55=ETH-USD|263=2": 0,
    "35=g|335=r1|263=2": 0,
}


@pytest.mark.parametrize(("request_text", "count"), REQUESTS.items())
def test_a_request_counts_once_per_symbol(request_text: str, count: int) -> None:
    assert symbols_asked_for(fix(request_text), symbols=2) == count


async def test_requests_that_come_too_soon_are_refused_and_change_nothing() -> None:
    world = World(requests_per_s_max=2)
    for seq, symbol in enumerate((SYMBOL, "ETH-USD")):
        world.desk.take_phase(phase("continuous", seq + 1, symbol))
    assert len(world.send("35=x|320=l1|559=4")) == 1
    text = "Rate limit: at most 2 requests per second"
    assert world.send(REQUEST.format("r1", 1)) == [f"Y 262=r1|281=2|58={text}"]
    assert world.send("35=x|320=l2|559=4") == ["y 320=l2|322=0-2|560=4"]
    for msg_type, request in (("e", "324=s1|55=BTC-USD"), ("g", "335=s1")):
        [message] = world.send(f"35={msg_type}|{request}|263=1")
        assert message == f"j 45=2|372={msg_type}|379=s1|380=0|58={text}"
    assert world.desk.subscriptions == 0
    world.client.now_ns += NS_PER_SECOND // 2
    assert world.send(REQUEST.format("r1", 1)) == []
    assert world.desk.subscriptions == 1
    # What ends a subscription is never too soon.
    world.send(REQUEST.format("r1", 2))
    assert world.desk.subscriptions == 0
