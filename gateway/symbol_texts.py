"""The texts of one symbol's prices, quantities and amounts on the wire, remembered. Pure.

A busy market names the same few hundred prices and quantities over and over, so the conversions of
``engine/instrument.py`` are done once for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.instrument import DecimalGrid, SymbolRules

TEXTS_MAX = 10_000
"""Texts remembered per table, some 1 MB; when there are more, the table starts over."""

AVG_PX_EXTRA_PLACES = 6
"""Decimal places that AvgPx (6) may have beyond those of the tick; the rest is cut off."""


class _Texts(dict[int, bytes]):
    """Steps → text, worked out when first asked for."""

    def __init__(self, grid: DecimalGrid, prefix: bytes = b"") -> None:
        self._grid = grid
        self._prefix = prefix

    def __missing__(self, steps: int) -> bytes:
        if len(self) >= TEXTS_MAX:
            self.clear()
        text = self[steps] = self._prefix + self._grid.format(steps).encode("ascii")
        return text


class _Steps(dict[bytes, int | None]):
    """Text → steps, worked out when first asked for."""

    def __init__(self, grid: DecimalGrid) -> None:
        self._grid = grid

    def __missing__(self, text: bytes) -> int | None:
        if len(self) >= TEXTS_MAX:
            self.clear()
        steps = self[text] = self._grid.parse(text.decode("latin-1"))
        return steps


class GridTexts:
    """Both directions of one decimal grid, as bytes.

    Args:
        grid: the tick size, lot size, or smallest unit of an asset.

    Attributes:
        text: returns the decimal text of so many steps.
        steps: returns how many steps a decimal text is, or None when it lies off the grid.
    """

    __slots__ = ("grid", "steps", "text")

    def __init__(self, grid: DecimalGrid) -> None:
        self.grid = grid
        # The look-ups themselves, not methods around them: five are needed for each report.
        self.text: Callable[[int], bytes] = _Texts(grid).__getitem__
        self.steps: Callable[[bytes], int | None] = _Steps(grid).__getitem__


class SymbolTexts:
    """What a symbol's rules say, ready for reading and writing FIX.

    Args:
        rules: the symbol's rules in force.

    Attributes:
        limit_price: returns the values of OrdType (40) and Price (44) of a limit order.
    """

    __slots__ = ("amounts", "limit_price", "name", "prices", "quantities", "quote", "rules")

    def __init__(self, rules: SymbolRules) -> None:
        self.rules = rules
        self.name = rules.symbol.encode("ascii")
        self.quote = rules.quote.encode("ascii")
        self.prices = GridTexts(DecimalGrid(rules.tick_size))
        limit_prices = _Texts(self.prices.grid, prefix=b"2\x0144=")
        self.limit_price: Callable[[int], bytes] = limit_prices.__getitem__
        self.quantities = GridTexts(DecimalGrid(rules.lot_size))
        self.amounts = GridTexts(DecimalGrid.of_scale(rules.quote_scale))

    def avg_px(self, cum_price_qty: int, cum_lots: int) -> bytes:
        """Return AvgPx (6) of an order that is filled in part: Σ price × quantity ÷ quantity."""
        price_ticks, rest = divmod(cum_price_qty, cum_lots)
        if not rest:
            return self.prices.text(price_ticks)
        return self.prices.grid.format_ratio(
            cum_price_qty, cum_lots, extra_places=AVG_PX_EXTRA_PLACES
        ).encode("ascii")


class SymbolTable:
    """The symbols of the venue, by name and by the bytes of Symbol (55).

    Args:
        rules: of every symbol, as in force.
        retired: of symbols that are not traded any more. They have a name, because reports that
            nobody has read yet may be about them, and no Symbol (55): no message is.
    """

    __slots__ = ("by_name", "by_tag")

    def __init__(self, rules: Iterable[SymbolRules], retired: Iterable[SymbolRules] = ()) -> None:
        self.by_name = {of_symbol.symbol: SymbolTexts(of_symbol) for of_symbol in retired}
        self.by_tag: dict[bytes, SymbolTexts] = {}
        self.update(rules)

    def update(self, rules: Iterable[SymbolRules]) -> None:
        """Take the rules that are in force now, of some symbols or all."""
        for of_symbol in rules:
            texts = SymbolTexts(of_symbol)
            self.by_name[of_symbol.symbol] = texts
            self.by_tag[texts.name] = texts
