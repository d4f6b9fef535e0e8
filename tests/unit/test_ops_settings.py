"""exchange.toml and the environment: overrides, refusals by key, and their documentation."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.enums import TradingPhase
from ops.errors import SettingsError
from ops.settings import Settings, child_environment, load_settings

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (ROOT / "exchange.toml").read_text()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "exchange.toml"
    path.write_text(SHIPPED)
    return path


def test_the_shipped_file_has_two_shards_and_four_symbols(config: Path) -> None:
    settings = load_settings(config, {})
    assert [(shard.id, shard.db, len(shard.symbols)) for shard in settings.shards] == [
        *((1, 1, 2), (2, 2, 2))
    ]
    assert len(settings.symbols) == 4
    assert settings.gateway.count == 2
    assert settings.redis_url is None


def test_the_environment_overrides_every_kind_of_setting(config: Path) -> None:
    settings = load_settings(
        config,
        {
            "SHARDEX_GATEWAY__PORT": "9900",
            "SHARDEX_REDIS_URL": "redis://:secret@example:6379",
            "SHARDEX_VAR_DIR": "elsewhere",
            "SHARDEX_SHARDS": '[{id = 7, db = 3, symbols = ["ALFA-USD", "BETA-USD",'
            ' "GAMMA-USD", "DELTA-USD"]}]',
            "PATH": "not ours",
        },
    )
    assert settings.gateway.port == 9900
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://:secret@example:6379"
    assert settings.var_dir == Path("elsewhere")
    assert [shard.id for shard in settings.shards] == [7]
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SHARDEX_GATEWAY__PORT", "high", "environment SHARDEX_GATEWAY__PORT: Input should be"),
        ("SHARDEX_GATEWAY__PORT", "0", "environment SHARDEX_GATEWAY__PORT: Input should be"),
        ("SHARDEX_GATEWAY__PROT", "1", "environment SHARDEX_GATEWAY__PROT: unknown setting"),
        ("SHARDEX_NOTHING", "1", "environment SHARDEX_NOTHING: unknown setting"),
        ("SHARDEX_VAR_DIR__X", "1", "environment SHARDEX_VAR_DIR__X"),
        ("SHARDEX_SHARDS__X", "1", "environment SHARDEX_SHARDS__X: shards is no section"),
        ("SHARDEX_SHARDS", "[1", "environment SHARDEX_SHARDS: not a TOML value"),
        ("SHARDEX_REDIS_URL", "http://x", "environment SHARDEX_REDIS_URL: expected redis://"),
        ("SHARDEX_REDIS_URL", "redis://x/3", "expected no database number"),
        ("SHARDEX_POSTGRES_URL", "x", "environment SHARDEX_POSTGRES_URL: expected postgresql://"),
    ],
)
def test_a_wrong_variable_is_named_with_the_reason(
    config: Path, name: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(config, {name: value})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count = 2", "count = 2\nprot = 1", "exchange.toml: gateway.prot: unknown setting"),
        (
            "count = 2",
            "count = 2\nheart_bt_int_min_s = 30\nheart_bt_int_max_s = 20",
            "gateway: heart_bt_int_min_s: expected at most heart_bt_int_max_s (20), received 30",
        ),
        (
            "count = 2",
            'count = 2\ntls_cert = "a"',
            "gateway: expected both of tls_cert and tls_key",
        ),
        ("scale = 6", "scale = 60", "exchange.toml: assets.0.scale: Input should be less"),
        ('quote = "USD"', 'quote = "EUR"', "symbols.0.quote: no [[assets]] block is named EUR"),
        ("id = 2", "id = 1", "shards.1.id: 1 stands there twice"),
        ('"GAMMA-USD", ', "", "symbols.2.name: GAMMA-USD is on no shard"),
        ("db = 1", 'db = 1\nredis_url = "redis://other"', "shards.0.redis_url: expected the acc"),
        ("[gateway]", "[gateway", "not TOML"),
        ('min_qty = "1"', 'min_qty = "1"\nmin_price = "0.001"', "symbols.0.min_price: expected a"),
        (
            'min_qty = "1"',
            'min_qty = "1"\nprice_band_action = "halt"',
            "symbols.0.price_band_action: halt needs a price_band_ppm",
        ),
    ],
)
def test_a_fault_in_the_file_is_named_with_the_reason(
    config: Path, old: str, new: str, message: str
) -> None:
    config.write_text(SHIPPED.replace(old, new, 1))
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(config, {})


SCHEDULE = """
[[schedule]]
symbols = ["ALFA-USD", "BETA-USD"]
timezone = "Europe/Berlin"
days = ["mon", "fri"]
pre_open = "08:00"
open = "09:00"
close = "17:30"
"""


def test_a_schedule_is_read_as_the_timetable_of_its_symbols(config: Path) -> None:
    config.write_text(SHIPPED + SCHEDULE)
    timetables = load_settings(config, {}).timetables()
    assert list(timetables) == ["ALFA-USD", "BETA-USD"]
    # Monday 2026-07-06, 07:00 UTC, is 09:00 in Berlin.
    monday_us = 1_783_321_200_000_000
    assert timetables["ALFA-USD"].last_due(monday_us) == (monday_us, TradingPhase.CONTINUOUS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Europe/Berlin", "Berlin", "schedule.0.timezone: expected UTC or an IANA time zone"),
        ('"fri"', '"mon"', "schedule.0.days: expected some of mon, tue"),
        ('["mon", "fri"]', "[]", "schedule.0.days: expected some of mon, tue"),
        ('"fri"', '"friday"', "schedule.0.days.1: Input should be 'mon'"),
        ('"08:00"', '"8:00"', "schedule.0.pre_open: String should match"),
        ('"08:00"', '"09:00"', "schedule.0: expected pre_open before open before close"),
        ('close = "17:30"', 'close = "03:00"', "schedule.0: expected pre_open before open"),
        ('"BETA-USD"]\ntime', '"NONE"]\ntime', "schedule.0.symbols: no [[symbols]] block is named"),
        ('"BETA-USD"]\ntime', '"ALFA-USD"]\ntime', "schedule.0.symbols: ALFA-USD has a schedule"),
    ],
)
def test_a_fault_in_a_schedule_is_named_with_the_reason(
    config: Path, old: str, new: str, message: str
) -> None:
    changed = SCHEDULE.replace(old, new, 1)
    assert changed != SCHEDULE
    config.write_text(SHIPPED + changed)
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(config, {})


def test_all_faults_are_told_at_once(config: Path) -> None:
    config.write_text(SHIPPED.replace("count = 2", "count = 0\nx = 1\n[writer]\ny = 2"))
    with pytest.raises(SettingsError) as caught:
        load_settings(config, {})
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file .*--config"):
        load_settings(tmp_path / "nowhere.toml", {})


def test_children_get_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDEX_LOG_LEVEL", "debug")
    environment = child_environment(redis_url="redis://a", postgres_url="postgresql://b")
    assert environment["SHARDEX_REDIS_URL"] == "redis://a"
    assert environment["SHARDEX_POSTGRES_URL"] == "postgresql://b"
    assert environment["SHARDEX_LOG_LEVEL"] == "debug"


def _documentation(model: type[BaseModel]) -> dict[str, str]:
    """Return the text under each setting of a class, in one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        setting.target.id: " ".join(str(text.value.value).split()).replace("``", "`")
        for setting, text in pairwise(body.body)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _range(field: FieldInfo) -> str:
    """Return what a setting may be, where that is a few words or two numbers."""
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return f"{min(kind):d} to {max(kind):d}"
    bounds = {
        name: getattr(one, name)
        for one in field.metadata
        for name in ("ge", "le")
        if hasattr(one, name)
    }
    if "le" in bounds:
        return f"{bounds['ge']} to {bounds['le']}"
    return f"from {bounds['ge']} on" if bounds else ""


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the line of docs/configuration.md for each setting outside the venue's blocks."""
    texts = _documentation(model)
    for name, field in model.model_fields.items():
        if name in ("assets", "symbols", "shards", "schedule"):
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            yield from _rows(type(default), f"{name}.")
            continue
        if isinstance(default, bool):
            plain: object = str(default).lower()
        else:
            plain = int(default) if isinstance(default, int) else default
        shown = "none" if default is None else f"`{plain}`"
        yield f"| `{prefix}{name}` | {shown} | {_range(field)} | {texts[name]} |"


def test_every_setting_is_documented_as_it_is() -> None:
    lines = (ROOT / "docs" / "configuration.md").read_text().splitlines()
    documented = [line for line in lines if re.match(r"\| `[a-z_.]+` \| (none|`[^`]*`) \| ", line)]
    assert documented == list(_rows(Settings))
