"""Keeper: when which board is written."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import pytest

from engine.enums import Side
from engine.order_replica import BookOrder
from marketdata import keeper
from marketdata.board import Board
from marketdata.candles import CandleBook
from marketdata.feed import Checkpoint
from marketdata.keeper import Keeper
from marketdata.settings import MarketDataSettings

SETTINGS = MarketDataSettings(snapshot_interval_ms=100, heartbeat_interval_ms=1_000)


class Store:
    """Notes what is saved."""

    def __init__(self) -> None:
        self.saves: list[tuple[list[str], list[str]]] = []

    async def save(
        self, boards: Sequence[Board], *, now_us: int, with_orders: Container[str] = ()
    ) -> None:
        symbols = [board.symbol for board in boards]
        self.saves.append((symbols, [name for name in symbols if name in with_orders]))


def board_with(symbol: str, orders: int) -> Board:
    empty = Checkpoint.empty(symbol)
    kept = [BookOrder(seq, Side.BUY, 100, 1, seq) for seq in range(1, orders + 1)]
    return Board(
        Checkpoint(symbol, 9, 0, None, kept, empty.last, [], empty.phase),
        CandleBook(),
    )


class World:
    """A keeper of a small and a large book, at the tenths of a second that the test says."""

    def __init__(self) -> None:
        self.store: Any = Store()
        self.boards = {"A-USD": board_with("A-USD", 1), "B-USD": board_with("B-USD", 7)}
        self.keeper = Keeper(self.store, self.boards, SETTINGS, lambda: 0)

    async def due(self, tenths: int) -> list[str]:
        due = self.keeper._due(tenths / 10)
        if due:
            await self.keeper._save(due)
        return [board.symbol for board in due]

    def change(self) -> None:
        for board in self.boards.values():
            board.seq += 1


async def test_changed_boards_are_written_and_large_ones_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "ORDERS_PER_INTERVAL", 3)
    world = World()
    assert await world.due(10) == ["A-USD", "B-USD"]
    written = []
    for tenths in range(11, 17):
        world.change()
        written.append(await world.due(tenths))
    assert written == [["A-USD"], ["A-USD"], ["A-USD", "B-USD"]] * 2


async def test_unchanged_boards_are_refreshed() -> None:
    world = World()
    assert await world.due(10) == ["A-USD", "B-USD"]
    assert [await world.due(tenths) for tenths in range(11, 20)] == [[]] * 9
    assert await world.due(20) == ["A-USD", "B-USD"]


async def test_wanted_orders_are_written_with_the_next_save_and_once() -> None:
    world = World()
    await world.due(10)
    world.keeper.want_orders("B-USD")
    world.keeper.want_orders("unknown")
    assert await world.due(11) == ["B-USD"]
    assert world.store.saves[-1] == (["B-USD"], ["B-USD"])
    assert await world.due(12) == []
