"""Homes on a real Redis: made once, compared always, changed only when that is safe."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.commands import DefineSymbol, decode_command
from engine.events import Output, encode_output
from engine.turn import OpenUpdate
from ops.wiring import define_venue
from router import keys
from router.commit import Committer
from router.errors import HomeMismatch, VenueRefused
from router.homes import (
    define_symbols,
    read_homes,
    read_retired_rules,
    refuse_removed_assets,
)
from router.lease import Lease
from router.shards import Shard
from tests.router_helpers import (
    BTC,
    ETH,
    SOL,
    SmallVenue,
    make_link,
    make_rules,
    settlement,
    small_venue,
)
from tests.venue import running_venue


async def redefine(venue: SmallVenue, **changed: str | int) -> None:
    rules = {**venue.rules, BTC: make_rules(BTC, **changed)}
    venue.homes = await define_symbols(venue.link, venue.shards, rules)


async def settle_all(venue: SmallVenue, *opens: OpenUpdate) -> None:
    lease = Lease(venue.new_link(1), owner="engine-1", ttl_ms=60_000)
    assert await lease.try_acquire() is None
    committer = Committer(venue.link, lease, venue.shard_homes(1))
    await committer.commit([settlement(BTC, 1, opens=list(opens))])


async def test_new_symbol_gets_a_home_and_a_first_entry(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        home = venue.homes[SOL]
        assert (home.shard, home.db, home.rules) == (2, 2, make_rules(SOL))
        [(seq, fields)] = await venue.stream(keys.orders(SOL), db=2)
        assert seq == 1
        assert decode_command(fields["c"]) == DefineSymbol(home.incarnation, home.rules)
        assert len({home.incarnation for home in venue.homes.values()}) == 3


async def test_defining_again_or_many_at_once_changes_nothing(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        before = await venue.dump()

        async def start() -> object:
            async with make_link(redis_url) as link:
                return await define_symbols(link, venue.shards, venue.rules)

        homes = await asyncio.gather(*(start() for _ in range(5)))

        assert homes == [venue.homes] * 5
        assert await venue.dump() == before


async def test_many_processes_define_a_new_symbol_once(redis_url: str) -> None:
    shards = [Shard(1, redis_url, 1, (BTC,))]

    async def start() -> object:
        async with make_link(redis_url) as link:
            return await define_symbols(link, shards, {BTC: make_rules()})

    first, *others = await asyncio.gather(*(start() for _ in range(5)))

    assert others == [first] * 4


async def test_changed_fee_becomes_the_next_version_in_the_stream(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        incarnation = venue.homes[BTC].incarnation
        await venue.give(1, "BTC", 10)

        await redefine(venue, taker_fee_ppm=100)

        rules = make_rules(BTC, taker_fee_ppm=100, version=2)
        assert venue.homes[BTC].rules == rules
        seq, fields = (await venue.stream(keys.orders(BTC), db=1))[-1]
        assert (seq, decode_command(fields["c"])) == (2, DefineSymbol(incarnation, rules))


async def test_grid_of_an_unused_symbol_may_change(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        await settle_all(venue)

        await redefine(venue, tick_size="0.05")

        assert venue.homes[BTC].rules == make_rules(BTC, tick_size="0.05", version=2)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"tick_size": "0.05"}, "symbols.BTC-USD.tick_size"),
        ({"lot_size": "2", "min_qty": "2", "max_qty": "20"}, "symbols.BTC-USD.lot_size"),
        ({"base_scale": 3}, "assets.BTC.scale"),
    ],
)
async def test_grid_with_balances_may_not_change(
    redis_url: str, changed: dict[str, str | int], key: str
) -> None:
    async with small_venue(redis_url) as venue:
        await settle_all(venue)
        await venue.link.call("HSET", keys.TOTALS, "BTC", 1)
        before = await venue.dump()

        with pytest.raises(VenueRefused, match="balances of BTC") as caught:
            await redefine(venue, **changed)

        assert caught.value.key == key
        assert await venue.dump() == before


async def test_scale_of_a_quote_asset_with_balances_may_not_change(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        await settle_all(venue)
        await venue.link.call("HSET", keys.TOTALS, "USD", 1)
        before = await venue.dump()

        with pytest.raises(VenueRefused, match="balances of USD") as caught:
            await redefine(venue, quote_scale=6)

        assert caught.value.key == "assets.USD.scale"
        assert await venue.dump() == before


async def test_refused_change_leaves_the_other_symbols_as_they_were(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        before = await venue.dump()
        await venue.link.call("HSET", keys.TOTALS, "SOL", 1)
        rules = {
            **venue.rules,
            BTC: make_rules(BTC, taker_fee_ppm=100),
            SOL: make_rules(SOL, tick_size="0.05"),
        }

        with pytest.raises(VenueRefused, match="balances of SOL"):
            await define_symbols(venue.link, venue.shards, rules)

        await venue.link.call("DEL", keys.TOTALS)
        assert await venue.dump() == before


async def test_grid_with_orders_may_not_change(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        with pytest.raises(VenueRefused, match="waiting for the engine"):
            await redefine(venue, tick_size="0.05")

        await settle_all(venue, OpenUpdate(7, "A", "1 1 1 1 0 1"))

        with pytest.raises(VenueRefused, match="open orders"):
            await redefine(venue, tick_size="0.05")


async def test_grid_may_not_change_below_reports_that_nobody_has_read(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        await settle_all(venue)
        for symbol in (ETH, BTC):
            report = encode_output(Output(symbol, 1, 1, [], []))
            await venue.link.call("XADD", keys.outbox(7), "*", "e", report)
        await venue.link.call("XADD", keys.outbox(8), "1-0", "c", b"x", "s", BTC)
        await venue.link.call("HSET", keys.session(8), "cursor", 1)

        with pytest.raises(VenueRefused, match="has not received") as caught:
            await redefine(venue, tick_size="0.05")
        await redefine(venue, taker_fee_ppm=100)
        await venue.link.call("DEL", keys.outbox(7))

        assert caught.value.key == "symbols.BTC-USD.tick_size"
        await venue.link.call("HSET", keys.SETTLED, BTC, 2)
        await redefine(venue, tick_size="0.05", taker_fee_ppm=100)
        assert venue.homes[BTC].rules.version == 3


async def test_symbol_in_use_may_not_be_removed(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        await settle_all(venue, OpenUpdate(7, "A", "1 1 1 1 0 1"))
        rules = {symbol: rule for symbol, rule in venue.rules.items() if symbol != BTC}
        shards = [Shard(1, redis_url, 1, (ETH,)), venue.shards[1]]

        with pytest.raises(VenueRefused, match="cannot be removed") as caught:
            await define_symbols(venue.link, shards, rules)

        assert caught.value.key == f"symbols.{BTC}"


@pytest.mark.parametrize("reader", [keys.POSITION_WRITER, keys.POSITION_MARKETDATA])
async def test_symbol_with_events_that_a_reader_lacks_may_not_be_removed(
    redis_url: str, reader: str
) -> None:
    async with small_venue(redis_url) as venue:
        await settle_all(venue)
        await venue.link.call("HSET", reader, BTC, 0)
        rules = {symbol: rule for symbol, rule in venue.rules.items() if symbol != BTC}
        shards = [Shard(1, redis_url, 1, (ETH,)), venue.shards[1]]

        with pytest.raises(VenueRefused, match="has not read all of its events") as caught:
            await define_symbols(venue.link, shards, rules)

        assert caught.value.key == f"symbols.{BTC}"
        await venue.link.call("HSET", reader, BTC, 1)
        assert set(await define_symbols(venue.link, shards, rules)) == {ETH, SOL}


async def test_asset_with_balances_may_not_be_removed_used_by_a_symbol_or_not(
    redis_url: str,
) -> None:
    async with make_link(redis_url) as link:
        await link.call("HSET", keys.TOTALS, "EUR", 1, "USD", 1, "JPY", 0)

        with pytest.raises(VenueRefused, match="balances of EUR") as caught:
            await refuse_removed_assets(link, {"USD"})

        assert caught.value.key == "assets.EUR"
        await refuse_removed_assets(link, {"USD", "EUR"})


async def test_venue_without_an_asset_that_somebody_has_does_not_start(
    redis_url: str, tmp_path: Path
) -> None:
    async with running_venue(redis_url, tmp_path, engines=False) as venue:
        await venue.link.call("HSET", keys.TOTALS, "EUR", 1)

        with pytest.raises(VenueRefused, match=r"^assets\.EUR: "):
            await define_venue(venue.settings, venue.link)


async def test_symbol_that_is_removed_leaves_its_rules_behind(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        await settle_all(venue)
        rules = {symbol: rule for symbol, rule in venue.rules.items() if symbol != BTC}
        shards = [Shard(1, redis_url, 1, (ETH,)), venue.shards[1]]

        homes = await define_symbols(venue.link, shards, rules)

        assert set(homes) == {ETH, SOL}
        assert await read_retired_rules(venue.link, homes) == [venue.rules[BTC]]
        assert await read_retired_rules(venue.link, venue.homes) == []


async def test_symbol_in_another_shard_is_refused(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        moved = [Shard(1, redis_url, 1, (BTC,)), Shard(2, redis_url, 2, (SOL, ETH))]

        for reading in (
            read_homes(venue.link, moved),
            define_symbols(venue.link, moved, venue.rules),
        ):
            with pytest.raises(HomeMismatch, match="ETH-USD lives in shard 1"):
                await reading


async def test_unknown_symbol_has_no_home(redis_url: str) -> None:
    async with make_link(redis_url) as link:
        with pytest.raises(HomeMismatch, match="never defined"):
            await read_homes(link, [Shard(1, redis_url, 1, (BTC,))])


@pytest.mark.parametrize("db", [0, 1])
async def test_emptied_database_is_an_error_never_a_new_beginning(redis_url: str, db: int) -> None:
    async with small_venue(redis_url) as venue:
        async with venue.link.sibling(db) as link:
            await link.call("FLUSHDB")

        with pytest.raises(HomeMismatch):
            await read_homes(venue.link, venue.shards)
        with pytest.raises(HomeMismatch):
            await define_symbols(venue.link, venue.shards, venue.rules)


async def test_stream_behind_what_was_settled_is_refused(redis_url: str) -> None:
    async with small_venue(redis_url) as venue:
        await venue.link.call("HSET", keys.SETTLED, BTC, 5)

        with pytest.raises(HomeMismatch, match="ends at seq 1, but 5 was settled"):
            await read_homes(venue.link, venue.shards)
