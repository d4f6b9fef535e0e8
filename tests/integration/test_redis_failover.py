"""Failover to a replica that has lost writes: found, listed, repaired from the journal, clean."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.server import Gateway
from ops.__main__ import main
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis, RedisBinary
from ops.engine_process import run_engine
from ops.lost_writes import without_leader
from ops.reconcile_cut import reconcile_cut
from ops.settings import load_settings
from ops.wiring import define_venue, read_venue, shard_map
from router import keys
from router.errors import LostWrites, Uncleared
from router.redis_client import RedisLink
from tests.exchange_process import FIRST_PORT
from tests.helpers import DEADLINE_MS, eventually_async
from tests.venue import BTC, USD, Peer, Venue, limit_order, running_venue

DATABASES = (0, 1, 2)


class Pair:
    """A Redis and its replica, which can take its place, at its port."""

    def __init__(self, directories: list[DataDirectory], binary: RedisBinary) -> None:
        self._directories = directories
        self._binary = binary
        # One follows at the port of another: one that nobody's connection gets meanwhile.
        self.servers = [
            EmbeddedRedis(one, binary=binary, port=FIRST_PORT + 8) for one in directories
        ]
        for server in self.servers:
            server.start()
        self.url = self.servers[0].url

    async def follow(self) -> None:
        """Have the replica follow, and wait until it does."""
        master, replica = self.servers
        async with _link(replica) as link:
            await link.call("REPLICAOF", "127.0.0.1", master.port)

            async def follows() -> bool:
                # Its own file is whole when what it was sent first has been rewritten there.
                found = await link.call("INFO", "replication") + await link.call(
                    "INFO", "persistence"
                )
                wanted = (b"link_status:up", b"rewrite_in_progress:0", b"rewrite_scheduled:0")
                return all(text in found for text in wanted)

            await eventually_async(follows)

    async def part(self) -> None:
        """Stop replicating, with all that was written until now."""
        master, replica = self.servers
        async with _link(master) as one, _link(replica) as other:
            assert await one.call("WAIT", 1, 0, block_ms=DEADLINE_MS) == 1
            await other.call("REPLICAOF", "NO", "ONE")

    def fail_over(self) -> None:
        """Kill the master, and start a server with the replica's data at its port."""
        port = self.servers[0].port
        for server in self.servers:
            assert server.pid is not None, "it runs"
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
        successor = EmbeddedRedis(self._directories[1], binary=self._binary, port=port)
        self.servers = [successor]
        successor.start()
        assert successor.url == self.url, "somebody took the port"


def _link(server: EmbeddedRedis) -> RedisLink:
    return RedisLink(server.url, db=0, name="test", timeout_ms=DEADLINE_MS)


@pytest.fixture
def pair(tmp_path: Path, redis_binary: RedisBinary) -> Iterator[Pair]:
    with (
        DataDirectory.open(tmp_path / "master") as first,
        DataDirectory.open(tmp_path / "replica") as second,
    ):
        pair = Pair([first, second], redis_binary)
        yield pair
        for server in pair.servers:
            server.stop()


@asynccontextmanager
async def engines(venue: Venue) -> AsyncIterator[dict[int, asyncio.Task[None]]]:
    """Run the engines of both shards; whatever ends them is in their tasks."""
    tasks = {
        shard: asyncio.create_task(run_engine(venue.settings, venue.redis_url, shard))
        for shard in (1, 2)
    }
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def is_open(venue: Venue) -> bool:
    for db in DATABASES:
        async with venue.link.sibling(db) as link:
            if (await link.call("GET", keys.CLEARED) or b"").decode() != link.run_id:
                return False
    return True


async def is_settled(venue: Venue) -> bool:
    """Whether the definition of each symbol has been settled."""
    return len(await venue.link.call("HKEYS", keys.SETTLED)) == len(venue.settings.symbols)


async def content(venue: Venue) -> dict[str, object]:
    """Return what must be again as it was: streams, ledger, money and who has it."""
    found: dict[str, object] = {}
    for db, patterns in (
        (0, ("ledger", "ledger:refs", "totals", "bal:*", "open:*", "settled", "bbo", "user*")),
        (1, ("orders:*", "events:*", "home:*")),
        (2, ("orders:*", "events:*", "home:*")),
    ):
        async with venue.link.sibling(db) as link:
            for pattern in patterns:
                for key in await link.call("KEYS", pattern):
                    found[f"{db} {key.decode()}"] = await _value(link, key)
    return found


async def _value(link: RedisLink, key: bytes) -> object:
    kind = await link.call("TYPE", key)
    if kind == b"stream":
        return await link.call("XRANGE", key, "-", "+")
    if kind == b"string":
        return await link.call("GET", key)
    flat = await link.call("HGETALL", key)
    return {k: v for k, v in zip(flat[::2], flat[1::2], strict=True) if v != b"0"}


async def repair(*arguments: str) -> int:
    """Run the command, outside of this loop."""
    return await asyncio.to_thread(main, ["repair", *arguments])


@pytest.fixture
async def venue(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Venue]:
    monkeypatch.setenv("SHARDEX_REDIS_URL", pair.url)
    monkeypatch.chdir(tmp_path)
    async with running_venue(pair.url, tmp_path, engines=False) as venue:
        yield venue


async def lose_what_traders_did(pair: Pair, venue: Venue, gateway: Gateway) -> tuple[Peer, Peer]:
    """Trade, and let the replica go before the last part; return a trader and one who does nothing.

    What is lost: a user with a deposit, a withdrawn hold that is spent again, proceeds that are
    spent in the other symbol, and a refusal.
    """
    alice, bob = [await venue.trader(gateway, name) for name in ("alice", "bob")]
    alice.send(limit_order("a1", 1, "1", "9000"))
    await alice.expect("8", t150="0", t11="a1")
    dora = await venue.trader(gateway, "dora")
    await pair.part()

    alice.send("35=F|11=c1|41=a1|55=BTC-USD|54=1|60=now")
    await alice.expect("8", t150="4")
    alice.send(limit_order("a2", 1, "2", "4900"))
    await alice.expect("8", t150="0", t11="a2")
    alice.send(limit_order("a3", 1, "2", "4900"))
    await alice.expect("8", t150="8", t103="3", t11="a3")
    bob.send(limit_order("b1", 2, "2", "4900"))
    await bob.expect("8", t150="0", t11="b1")
    await bob.expect("8", t150="F", t11="b1")
    await alice.expect("8", t150="F", t11="a2")
    bob.send("35=D|11=b2|55=ETH-USD|54=1|60=now|38=10|40=2|44=1900")
    await bob.expect("8", t150="0", t11="b2")
    carol = await venue.add_user("carol", USD=500 * USD, BTC=BTC)
    peer = await venue.log_on(gateway, carol, "carol")
    peer.send(limit_order("o1", 2, "0.5", "5100"))
    await peer.expect("8", t150="0", t11="o1")
    return alice, dora


async def test_lost_writes_are_found_listed_and_repaired(
    pair: Pair, venue: Venue, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(venue.gateway())
        async with engines(venue) as running:
            await eventually_async(lambda: is_open(venue))
            await pair.follow()
            alice, dora = await lose_what_traders_did(pair, venue, gateway)
            before = await content(venue)
            assert await reconcile_cut(venue.link) == []
            pair.fail_over()
            for shard, lost in ((1, "orders:BTC-USD lacks 3 to 6"), (2, "lacks 2")):
                with pytest.raises(LostWrites, match=lost) as caught:
                    await running[shard]
                assert caught.value.shard == shard
            assert not await is_open(venue)
            # Whoever is told less by this Redis than before is parted with; the other goes on.
            await alice.expect(
                "5", t58="The exchange has lost a part of this session: log on again"
            )
            await alice.close()
            dora.send(limit_order("d1", 1, "1", "1"))
            await eventually_async(lambda: not gateway.stats()["redis_available"])
            dora.send(limit_order("d2", 1, "1", "1"))
            await dora.expect("j", t380="4", t379="d2")

        with pytest.raises(SystemExit):
            main(["repair"])
        assert await repair("2") == 1
        assert "shardex repair 1 first" in capsys.readouterr().err
        assert await repair("1", "--dry-run") == 0
        assert await repair("1") == 0
        said = capsys.readouterr().out
        assert "ledger 10: UserCreated, account 4: lost" in said
        assert "BTC-USD 4: NewOrder, account 1, ClOrdID a2, needs 9802.4500 USD: restored" in said
        assert "shard 1: 3 ledger entries and 4 commands restored" in said
        assert await repair("2") == 0
        assert await repair("1") == 0
        assert "0 ledger entries and 0 commands restored" in capsys.readouterr().out

        async with engines(venue):
            await eventually_async(lambda: is_open(venue))
            assert await reconcile_cut(venue.link) == []
            # The order that waited for an answer has got one, and is all that is new.
            # The refusal is on record now, and so said again.
            answers = [await dora.expect_any() for _ in range(2)]
            told = sorted((one["35"], one.get("379") or one["11"]) for one in answers)
            assert told == [("8", "d1"), ("j", "d2")]
            dora.send("35=F|11=d3|41=d1|55=BTC-USD|54=1|60=now")
            await dora.expect("8", t150="4", t11="d3")
            after = await content(venue)
            assert _without_new(after, before) == before
            await goes_on(venue, gateway, alice)


async def test_a_deposit_alone_that_is_lost_is_found_and_other_shards_wait_for_it(
    pair: Pair, venue: Venue
) -> None:
    async with engines(venue) as running:
        await eventually_async(lambda: is_open(venue))
        account = await venue.add_user("user", USD=USD)
        await eventually_async(lambda: is_settled(venue))
        await pair.follow()
        await pair.part()
        await venue.deposit(account, "USD", USD)
        name = keys.position_engine("engine-1")

        async def is_journalled() -> bool:
            return bool(await venue.link.call("HGET", name, keys.LEDGER) == b"3")

        await eventually_async(is_journalled)
        pair.fail_over()
        with pytest.raises(LostWrites, match="ledger lacks 3; to put it back: shardex repair 1"):
            await running[1]
        assert not running[2].done()
        shards = shard_map(venue.settings, venue.redis_url).shards
        told = await without_leader(venue.settings, venue.link, shards, {1: None, 2: "engine-2"})
        assert told == [
            "shard-1: nobody leads it",
            "shard 1: Redis has lost what the journal has: ledger lacks 3;"
            " to put it back: shardex repair 1",
        ]
        with pytest.raises(Uncleared):
            await venue.deposit(account, "USD", USD)
    assert await repair("1") == 0
    assert (await venue.balances(account))["USD"].available == 2 * USD
    told = await without_leader(venue.settings, venue.link, shards, {1: None, 2: None})
    assert told == [f"shard-{shard}: nobody leads it" for shard in (1, 2)]


async def test_changed_rules_are_made_once_the_server_is_cleared(
    pair: Pair, venue: Venue, tmp_path: Path
) -> None:
    async with engines(venue):
        await eventually_async(lambda: is_open(venue))
        await pair.follow()
        await pair.part()
    pair.fail_over()
    config = tmp_path / "exchange.toml"
    config.write_text(config.read_text().replace("taker_fee_ppm = 250", "taker_fee_ppm = 300"))
    venue.settings = load_settings(config, {})
    homes = await define_venue(venue.settings, venue.link)
    assert homes["ETH-USD"].rules.version == 1
    async with engines(venue):

        async def is_changed() -> bool:
            homes = await read_venue(venue.settings, venue.link)
            return all(home.rules.version == 2 for home in homes.values())

        await eventually_async(is_changed)


def _without_new(after: dict[str, object], before: dict[str, object]) -> dict[str, object]:
    """Return streams as far as they went before, and all else."""
    kept = {}
    for key, value in after.items():
        old = before.get(key)
        kept[key] = (
            value[: len(old)] if isinstance(value, list) and isinstance(old, list) else value
        )
    for key in ("0 settled", "0 bbo"):
        kept[key] = before[key]
    return kept


async def goes_on(venue: Venue, gateway: Gateway, before: Peer) -> None:
    """Log on again without a reset, fill what is asked for again, and trade."""
    peer = await venue.log_on(gateway, before.account, "alice", next_out=before.next_out)
    last = int(before.received[-1].get(34))
    assert int(peer.received[-1].get(34)) > last
    peer.send(limit_order("a4", 1, "0.01", "100"))
    exec_ids = []
    while True:
        message = await peer.expect_any()
        if message["35"] == "2":
            # Up to the order, which waits there.
            fill = f"35=4|123=Y|36={peer.next_out - 1}"
            peer.send(fill, number=int(message["7"]), header="43=Y")
        elif message.get("11") == "a4":
            assert message["150"] == "0"
            break
        else:
            exec_ids.append(message["17"])
    # Told again is what Redis did not know to be told, with the same ids.
    told = [one.get(17).decode() for one in before.received if one.get(35) == b"8"]
    assert exec_ids and set(exec_ids) <= set(told)
    peer.send("35=F|11=a5|41=a4|55=BTC-USD|54=1|60=now")
    await peer.expect("8", t150="4", t11="a5")
