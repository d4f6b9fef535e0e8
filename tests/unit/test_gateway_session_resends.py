"""One fetch at a time: what is asked for meanwhile becomes one range."""

from __future__ import annotations

import pytest

from gateway.fix_message import encode_fields, frame
from gateway.session_events import Event, ResendRequested
from gateway.session_outbound import OutboundSide
from gateway.session_resends import Resends


class World:
    def __init__(self) -> None:
        self.outbound = OutboundSide(b"SHARDEX", now_ns=0)
        self.outbound.open(b"7", next_num=10, limit=100)
        self.events: list[Event] = []
        self.resends = Resends(self.outbound, self.events)

    def send(self, begin: int, end: int, *stored: int) -> list[int]:
        messages = [
            (number, frame(encode_fields([(b"35", b"8"), (b"52", b"20260102-03:04:05")])))
            for number in stored
        ]
        self.resends.send(messages, begin, end, now_ns=1)
        return [message.msg_seq_num for message in self.outbound.drain()]


@pytest.fixture
def world() -> World:
    return World()


def test_range_is_sent_in_parts_with_its_gaps_filled(world: World) -> None:
    world.resends.request(1, 9)
    assert world.events == [ResendRequested(1, 9)]
    assert world.send(1, 4, 2, 3) == [1, 2, 3, 4]
    assert world.send(5, 9) == [5]


def test_requests_meanwhile_become_one_range(world: World) -> None:
    world.resends.request(5, 9)
    world.resends.request(3, 4)
    world.resends.request(1, 2)
    world.resends.request(6, 8)
    assert world.events == [ResendRequested(5, 9)]
    assert world.send(5, 9, 5, 6, 7, 8, 9) == [5, 6, 7, 8, 9]
    assert world.events == [ResendRequested(5, 9), ResendRequested(1, 8)]


def test_what_does_not_fit_the_open_request_is_not_sent(world: World) -> None:
    assert world.send(1, 2, 1, 2) == []
    world.resends.request(3, 5)
    assert world.send(4, 5, 4) == []
    assert world.send(3, 6, 3) == []
    world.resends.forget()
    assert world.send(3, 5, 3) == []
