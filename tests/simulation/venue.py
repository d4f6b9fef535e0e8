"""The venue of every world: assets, symbols and settings that suit virtual time."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from argon2 import PasswordHasher

from ops.settings import Settings, load_settings

PASSWORD = b"secret"
PASSWORD_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
DEPOSITS = {"USD": 6_000_0000, "BTC": 80_00, "ETH": 80_00, "SOL": 80_00}

_ASSET = '[[assets]]\nname = "{}"\nscale = {}\n'
_SYMBOL = """[[symbols]]
name = "{0}-USD"
base = "{0}"
quote = "USD"
tick_size = "0.01"
lot_size = "1"
min_qty = "1"
max_qty = "1000000"
min_notional = "0"
maker_fee_ppm = 700
taker_fee_ppm = 1300
"""
_SHARD = "[[shards]]\nid = {0}\ndb = {0}\nsymbols = {1}\n"
_PROCESSES = """
[redis]
call_timeout_ms = 400
session_ttl_ms = 600
[engine]
journal_fsync = "{fsync}"
lease_ttl_ms = 400
snapshot_interval_s = 1
snapshot_inputs_min = 1
[gateway]
sweep_interval_ms = 200
[writer]
batch_age_ms_max = 20
publish_interval_ms = 100
[marketdata]
snapshot_interval_ms = 50
heartbeat_interval_ms = 200
"""


@functools.lru_cache
def venue_settings(shards: tuple[tuple[str, ...], ...], fsync: str) -> Settings:
    """Return the settings of a venue with these shards."""
    assets = [name.partition("-")[0] for symbols in shards for name in symbols]
    text = "".join(
        [
            _ASSET.format("USD", 4),
            *(_ASSET.format(name, 2) for name in assets),
            *map(_SYMBOL.format, assets),
            *(_SHARD.format(n, list(symbols)) for n, symbols in enumerate(shards, 1)),
            _PROCESSES.format(fsync=fsync),
        ]
    )
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return load_settings(Path(file.name), environment={})
