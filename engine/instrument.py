"""The rules of a symbol, and the only conversions between decimal text and integers. Pure.

Inside the system a price is ``price_ticks``, a quantity ``qty_lots``, an amount the asset's
smallest unit (10^-scale); all plain ints. Text with a decimal point exists in exchange.toml, in
FIX and public feeds, and in Postgres. ``DecimalGrid`` is the one door between the two, in both
directions, and exact: what does not lie on the grid is refused, never rounded.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from engine.enums import Side
from engine.errors import InstrumentError

AMOUNT_MAX = 2**62
"""Largest amount, total of an asset, or notional: Redis counters are int64, and a sum of two
fits."""

_SELL: Final = Side.SELL  # a global: reading it through its class costs 70 ns on CPython 3.11

PPM = 1_000_000
"""Fees are whole parts per million of the notional."""


class DecimalGrid:
    """All multiples of one positive decimal step, such as a tick size, as integers.

    Args:
        step: decimal text, such as ``0.01`` or ``5``; exponent notation is refused.

    Raises:
        InstrumentError: the step is not a positive plain decimal.
    """

    __slots__ = ("_multiplier", "_places", "_unit", "step")

    def __init__(self, step: str) -> None:
        value = _plain_decimal(step)
        if value is None or value <= 0:
            raise InstrumentError(f"expected a positive decimal step, received {step!r}")
        exponent = value.normalize().as_tuple().exponent
        assert isinstance(exponent, int), "Invariant: a plain decimal is finite"
        self.step = step
        self._places = max(0, -exponent)
        self._unit = 10**self._places
        self._multiplier = int(value * self._unit)

    @classmethod
    def of_scale(cls, scale: int) -> DecimalGrid:
        """Return the grid of an asset's smallest unit, 10^-scale."""
        return cls("1" if scale == 0 else f"0.{'0' * (scale - 1)}1")

    def parse(self, text: str) -> int | None:
        """Return how many steps the decimal text is, or None when it is no multiple of the step.

        Signs, exponents, blanks and anything but ASCII digits and one point are refused too.
        """
        whole, _, fraction = text.partition(".")
        if not (whole + fraction).isdigit() or not text.isascii():
            return None
        if len(fraction) > self._places:
            if fraction[self._places :].strip("0"):
                return None
            fraction = fraction[: self._places]
        scaled = int((whole or "0") + fraction.ljust(self._places, "0"))
        steps, off_grid = divmod(scaled, self._multiplier)
        return None if off_grid else steps

    def format(self, steps: int) -> str:
        """Return the decimal text of so many steps, with all the places of the step."""
        scaled = steps * self._multiplier
        if not self._places:
            return str(scaled)
        sign = "-" if scaled < 0 else ""
        whole, fraction = divmod(abs(scaled), self._unit)
        return f"{sign}{whole}.{fraction:0{self._places}d}"

    def format_ratio(self, steps: int, parts: int, *, extra_places: int) -> str:
        """Return steps ÷ parts as decimal text, cut after ``extra_places`` more places.

        For display only (AvgPx): it is the one place where digits are dropped.
        """
        scaled = steps * self._multiplier * 10**extra_places // parts
        unit = self._unit * 10**extra_places
        whole, fraction = divmod(scaled, unit)
        digits = f"{fraction:0{self._places + extra_places}d}"
        kept = digits[: self._places] + digits[self._places :].rstrip("0")
        return f"{whole}.{kept}" if kept else str(whole)


def _plain_decimal(text: str) -> Decimal | None:
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


class SymbolRules(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must hold for every order of a symbol; the payload of ``DefineSymbol``.

    Units: amounts in the smallest unit of their asset, prices in ticks, quantities in lots, fees
    in parts per million of the notional, both sides paying in the quote asset. ``version`` starts
    at 1 and rises by one with each change. Prices are from ``min_price_ticks`` to
    ``max_price_ticks`` (the static band), and no order may be priced further beyond the last trade
    than ``band_ppm`` parts per million (0: anywhere): it is refused, and if it would have traded,
    the symbol halts too where ``band_halts``.
    """

    symbol: str
    base: str
    quote: str
    base_scale: int
    quote_scale: int
    tick_size: str
    lot_size: str
    quote_units_per_tick_lot: int
    base_units_per_lot: int
    min_qty_lots: int
    max_qty_lots: int
    max_price_ticks: int
    min_notional: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    version: int
    min_price_ticks: int = 1
    band_ppm: int = 0
    band_halts: bool = False

    def notional(self, price_ticks: int, qty_lots: int) -> int:
        """Return price × quantity in the quote asset's smallest unit; exact by construction."""
        return price_ticks * qty_lots * self.quote_units_per_tick_lot

    @property
    def max_fee_ppm(self) -> int:
        """Return the larger of the two rates: a hold must suffice for either."""
        maker_ppm, taker_ppm = self.maker_fee_ppm, self.taker_fee_ppm
        return maker_ppm if maker_ppm > taker_ppm else taker_ppm

    def hold_of(self, side: Side, price_ticks: int, qty_lots: int) -> int:
        """Return what a new order of this size must reserve: quote incl. fee for a buy, base for a
        sell.

        Source: design, section 2 (fees); with nothing filled yet the formula reduces to this.
        """
        if side == _SELL:
            return qty_lots * self.base_units_per_lot
        notional = price_ticks * qty_lots * self.quote_units_per_tick_lot
        return notional + fee_ceil(notional * self.max_fee_ppm)

    def hold_asset(self, side: Side) -> str:
        """Return the asset an order of this side reserves."""
        return self.quote if side == Side.BUY else self.base


def fee_ceil(notional_ppm: int) -> int:
    """Return ceil(notional_ppm / 10^6): the fee on a sum of notional × ppm."""
    return -(-notional_ppm // PPM)


def define_rules(
    *,
    symbol: str,
    base: str,
    quote: str,
    base_scale: int,
    quote_scale: int,
    tick_size: str,
    lot_size: str,
    min_qty: str,
    max_qty: str,
    max_price: str | None,
    min_notional: str,
    maker_fee_ppm: int,
    taker_fee_ppm: int,
    version: int,
    min_price: str | None = None,
    price_band_ppm: int = 0,
    price_band_halts: bool = False,
) -> SymbolRules:
    """Turn the decimals of exchange.toml into rules; prove that nothing is rounded or overflows.

    Args:
        max_price, min_price: None takes the largest that still fits in 2^62, and one tick.

    Raises:
        InstrumentError: a decimal lies off its grid, tick × lot is no whole number of quote units,
            the largest notional with fees does not fit in 2^62; the message starts with the key.
    """
    prices, lots = _grid("tick_size", tick_size), _grid("lot_size", lot_size)
    notional = Decimal(tick_size) * Decimal(lot_size) * 10**quote_scale
    unit = _whole("tick_size", notional, f"tick × lot in units of {quote}")
    base_unit = _whole("lot_size", Decimal(lot_size) * 10**base_scale, f"a lot in units of {base}")
    _in_range("maker_fee_ppm", maker_fee_ppm, 0, PPM)
    _in_range("taker_fee_ppm", taker_fee_ppm, 0, PPM)
    max_qty_lots = _in_range("max_qty", _on_grid("max_qty", max_qty, lots), 1, AMOUNT_MAX)
    largest = max_qty_lots * unit * (PPM + max(maker_fee_ppm, taker_fee_ppm))
    ceiling_ticks = _ceiling_ticks(max_qty, largest, max_qty_lots * base_unit)
    max_price_ticks = _price("max_price", max_price, prices, ceiling_ticks, ceiling_ticks)
    return SymbolRules(
        symbol=symbol,
        base=base,
        quote=quote,
        base_scale=base_scale,
        quote_scale=quote_scale,
        tick_size=tick_size,
        lot_size=lot_size,
        quote_units_per_tick_lot=unit,
        base_units_per_lot=base_unit,
        min_qty_lots=_in_range("min_qty", _on_grid("min_qty", min_qty, lots), 1, max_qty_lots),
        max_qty_lots=max_qty_lots,
        max_price_ticks=max_price_ticks,
        min_notional=_on_grid("min_notional", min_notional, DecimalGrid.of_scale(quote_scale)),
        maker_fee_ppm=maker_fee_ppm,
        taker_fee_ppm=taker_fee_ppm,
        version=version,
        min_price_ticks=_price("min_price", min_price, prices, 1, max_price_ticks),
        band_ppm=_band(price_band_ppm, halts=price_band_halts),
        band_halts=price_band_halts,
    )


def _grid(key: str, step: str) -> DecimalGrid:
    try:
        return DecimalGrid(step)
    except InstrumentError as error:
        raise InstrumentError(f"{key}: {error}") from error


def _whole(key: str, amount: Decimal, what: str) -> int:
    if amount != int(amount):
        raise InstrumentError(f"{key}: expected {what} to be a whole number, received {amount}")
    return int(amount)


def _in_range(key: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InstrumentError(f"{key}: expected {least} to {most}, received {value}")
    return value


def _ceiling_ticks(max_qty: str, quote_ppm_per_tick: int, base_units: int) -> int:
    # From what the largest order costs per tick, fee included, in ppm of a unit; and sells.
    ceiling_ticks = AMOUNT_MAX * PPM // quote_ppm_per_tick - 1
    if ceiling_ticks < 1 or base_units > AMOUNT_MAX:
        raise InstrumentError(f"max_qty: an order of {max_qty} does not fit in 2^62 units")
    return ceiling_ticks


def _band(band_ppm: int, *, halts: bool) -> int:
    if halts and not band_ppm:
        raise InstrumentError("price_band_action: halt needs a price_band_ppm")
    return _in_range("price_band_ppm", band_ppm, 0, PPM)


def _price(key: str, text: str | None, grid: DecimalGrid, default: int, most: int) -> int:
    return default if text is None else _in_range(key, _on_grid(key, text, grid), 1, most)


def _on_grid(key: str, text: str, grid: DecimalGrid) -> int:
    steps = grid.parse(text)
    if steps is None:
        raise InstrumentError(f"{key}: expected a multiple of {grid.step}, received {text!r}")
    return steps
