"""What can be wrong with market data's own state and feeds. Pure.

    ExchangeError
    └── MarketDataError
        ├── StateMismatch     the kept state contradicts the stream, the home or the position
        └── PositionMoved     somebody else has moved ``position:marketdata``

A message that does not decode is ``engine.errors.DecodeError``.
"""

from __future__ import annotations

from engine.errors import ExchangeError


class MarketDataError(ExchangeError):
    """Root of this package's errors."""


class StateMismatch(MarketDataError):
    """The kept state of a symbol contradicts what it was kept for; the process refuses to start.

    Args:
        symbol: the symbol's name.
        reason: what was expected and what was found.
    """

    def __init__(self, symbol: str, reason: str) -> None:
        super().__init__(f"market data of {symbol}: {reason}")
        self.symbol = symbol


class PositionMoved(MarketDataError):
    """``position:marketdata`` is not what this process wrote last.

    A second one is running, or another Redis took over that lacks it. The next start goes on from
    what is kept there, so subscribers may get messages twice.
    """
