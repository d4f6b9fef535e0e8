"""What exchange.toml says about the venue: assets, symbols and shards, validated as a whole. Pure.

The file's shape and meaning stand in the field descriptions below. Every refusal names the key it
is about, such as ``symbols.2.quote``, counted from 0 as in the file.
"""

from __future__ import annotations

from datetime import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.enums import TradingPhase
from engine.errors import InstrumentError
from engine.instrument import SymbolRules, define_rules
from engine.limits import SYMBOL_LENGTH_MAX
from ops.schedule import DAYS, Timetable, find_zone

AssetName = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,10}$")]
SymbolName = Annotated[str, Field(pattern=rf"^[A-Z0-9][A-Z0-9-]{{0,{SYMBOL_LENGTH_MAX - 1}}}$")]
TimeText = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
DecimalText = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asset(_Section):
    """One ``[[assets]]`` block: amounts are whole numbers of 10^-scale."""

    name: AssetName
    scale: Annotated[int, Field(ge=0, le=18)]


class Symbol(_Section):
    """One ``[[symbols]]`` block. Prices are multiples of tick_size, quantities of lot_size."""

    name: SymbolName
    base: AssetName
    quote: AssetName
    tick_size: DecimalText
    lot_size: DecimalText
    min_qty: DecimalText
    max_qty: DecimalText
    max_price: DecimalText | None = None
    """Left out: the largest price at which an order of max_qty still fits in 2^62 units."""
    min_price: DecimalText | None = None
    """Left out: one tick. Together with max_price the static price band."""
    min_notional: DecimalText = "0"
    """Smallest price × quantity of an order, in the quote asset."""
    maker_fee_ppm: int = 0
    """Whole parts per million of the notional, paid in the quote asset by the resting side."""
    taker_fee_ppm: int = 0
    """The same, by the incoming side."""
    price_band_ppm: int = 0
    """The band around the last trade: how far beyond it, in parts per million, an order may be
    priced. 0: anywhere."""
    price_band_action: Literal["reject", "halt"] = "reject"
    """What an order beyond that band does that would trade: it is refused in any case; ``halt``
    halts the symbol too, until an operator opens it again."""


class Shard(_Section):
    """One ``[[shards]]`` block: one engine process, one Redis database."""

    id: Annotated[int, Field(ge=1, le=9999)]
    db: Annotated[int, Field(ge=1, le=63)]
    """Database 0 holds the accounts; redis.conf sets 64 databases."""
    symbols: list[SymbolName]
    redis_url: str | None = None
    """Left out: the accounts' server. Another server is refused until admission spans servers."""


class Schedule(_Section):
    """One ``[[schedule]]`` block: when some symbols are opened and closed, the same every day."""

    symbols: list[SymbolName]
    timezone: str = "UTC"
    """UTC, or a name of the IANA data base such as Europe/Berlin, in which the times are meant."""
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]]
    pre_open: TimeText | None = None
    """Left out: orders are taken from ``open`` on, and there is no opening auction."""
    open: TimeText
    close: TimeText

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        find_zone(name)
        return name

    @field_validator("days")
    @classmethod
    def _is_a_week(cls, days: list[str]) -> list[str]:
        if not days or len(set(days)) != len(days):
            raise ValueError(f"expected some of {', '.join(DAYS)}, each once")
        return days

    @model_validator(mode="after")
    def _is_in_order(self) -> Schedule:
        times = [text for text in (self.pre_open, self.open, self.close) if text is not None]
        if times != sorted(set(times)):
            raise ValueError("expected pre_open before open before close, on one day")
        return self

    def timetable(self) -> Timetable:
        """Return what it says, to ask what is due."""
        changes = [
            (time.fromisoformat(text), phase)
            for text, phase in (
                (self.pre_open, TradingPhase.PRE_OPEN),
                (self.open, TradingPhase.CONTINUOUS),
                (self.close, TradingPhase.CLOSED),
            )
            if text is not None
        ]
        return Timetable(find_zone(self.timezone), self.days, changes)


class Venue(_Section):
    """Assets, symbols, shards and their hours: what all processes must agree on."""

    assets: list[Asset]
    symbols: list[Symbol]
    shards: list[Shard]
    schedule: list[Schedule] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_whole(self) -> Venue:
        """Check what no single block can: names are unique, references exist, amounts fit."""
        _unique("assets", "name", [asset.name for asset in self.assets])
        _unique("symbols", "name", [symbol.name for symbol in self.symbols])
        _unique("shards", "id", [str(shard.id) for shard in self.shards])
        _unique("shards", "db", [str(shard.db) for shard in self.shards])
        self._check_symbols()
        self._check_shards()
        self._check_schedule()
        return self

    def _check_symbols(self) -> None:
        names = {asset.name for asset in self.assets}
        for index, symbol in enumerate(self.symbols):
            for key, asset in (("base", symbol.base), ("quote", symbol.quote)):
                if asset not in names:
                    raise ValueError(f"symbols.{index}.{key}: no [[assets]] block is named {asset}")
            if symbol.base == symbol.quote:
                raise ValueError(f"symbols.{index}.quote: expected another asset than the base")
            try:
                self.rules_of(symbol, version=1)
            except InstrumentError as error:
                raise ValueError(f"symbols.{index}.{error}") from error

    def _check_shards(self) -> None:
        known = {symbol.name for symbol in self.symbols}
        shard_of: dict[str, int] = {}
        for index, shard in enumerate(self.shards):
            for name in shard.symbols:
                where = f"shards.{index}.symbols"
                if name not in known:
                    raise ValueError(f"{where}: no [[symbols]] block is named {name}")
                if name in shard_of:
                    raise ValueError(f"{where}: {name} is on shard {shard_of[name]} already")
                shard_of[name] = shard.id
        for index, symbol in enumerate(self.symbols):
            if symbol.name not in shard_of:
                raise ValueError(f"symbols.{index}.name: {symbol.name} is on no shard")

    def _check_schedule(self) -> None:
        known = {symbol.name for symbol in self.symbols}
        scheduled: set[str] = set()
        for index, schedule in enumerate(self.schedule):
            for name in schedule.symbols:
                where = f"schedule.{index}.symbols"
                if name not in known:
                    raise ValueError(f"{where}: no [[symbols]] block is named {name}")
                if name in scheduled:
                    raise ValueError(f"{where}: {name} has a schedule already")
                scheduled.add(name)

    def timetables(self) -> dict[str, Timetable]:
        """Return the timetable of each symbol that has one."""
        return {
            name: timetable
            for schedule in self.schedule
            for timetable in (schedule.timetable(),)
            for name in schedule.symbols
        }

    def rules_of(self, symbol: Symbol, *, version: int) -> SymbolRules:
        """Return the integer rules of a symbol.

        Raises:
            InstrumentError: the symbol's decimals contradict each other; cannot happen once
            loaded.
        """
        scale = {asset.name: asset.scale for asset in self.assets}
        return define_rules(
            symbol=symbol.name,
            base=symbol.base,
            quote=symbol.quote,
            base_scale=scale[symbol.base],
            quote_scale=scale[symbol.quote],
            tick_size=symbol.tick_size,
            lot_size=symbol.lot_size,
            min_qty=symbol.min_qty,
            max_qty=symbol.max_qty,
            max_price=symbol.max_price,
            min_notional=symbol.min_notional,
            maker_fee_ppm=symbol.maker_fee_ppm,
            taker_fee_ppm=symbol.taker_fee_ppm,
            version=version,
            min_price=symbol.min_price,
            price_band_ppm=symbol.price_band_ppm,
            price_band_halts=symbol.price_band_action == "halt",
        )

    def scales(self) -> dict[str, int]:
        """Return each asset's scale by name."""
        return {asset.name: asset.scale for asset in self.assets}


def _unique(block: str, key: str, values: list[str]) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise ValueError(f"{block}.{index}.{key}: {value} stands there twice")
        seen.add(value)
