"""``shardex repair``: give a Redis that took over what it has lost, from the journal."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from engine.commands import DefineSymbol, QueryOrder, decode_command
from engine.instrument import DecimalGrid
from engine.journal import Record
from engine.journal_keys import LEDGER, skip_key
from engine.journal_reader import JournalReader
from engine.ledger_entries import Deposited
from ops.cli import (
    EXIT_FAILED,
    EXIT_OK,
    Subparsers,
    add_command,
    positive_number,
    settings_of,
)
from ops.errors import CommandFailed
from ops.settings import Settings
from ops.venue_servers import venue_servers
from ops.wiring import accounts_link, journal_directory, shard_map
from router import keys
from router.clearance import has_ledger
from router.dense_ids import last_entry, last_number
from router.homes import Home, read_homes
from router.leadership import RENEWALS_PER_TTL
from router.lease import Lease
from router.redis_client import RedisLink, retry_while_away
from router.repair import OWNER_PREFIX, Found, Lost, Repair, Short
from router.shards import Shard, ShardMap

LEASE_WAIT_S = 5.0
"""How long somebody may lead the shard, and one time to live of the lease besides, before this is
refused: engines that find out by themselves that writes are lost end at once, but one that was
killed holds the lease until it runs out."""

_POLL_S = 0.05

_DETAILS = """\
After a failover to a replica that had not got everything, an engine says "shard N: Redis has
lost what the journal has" and ends, and orders are refused (380=4). This reads the longer of
the shard's two journals in var/journals from the beginning and puts back what the streams
lack, with the numbers and stamps that it had: users, deposits and withdrawals (with the
lowest shard), then commands with the money they record; and commits what came of them.
Engines that have found it end by themselves, and lead again afterwards; while one leads,
which has read all the journals that it could, this is refused, and says whether anything
is lost. Of a venue that is stopped, the private servers are started for the time of the
command. Prints each entry. With several shards start with the lowest. What an account has
not enough for stays lost and is listed: repair the other shards, or deposit, then run it
again. It may be run again at any time. Commands that no engine had read were never
acknowledged and are not in any journal."""


def add_parsers(commands: Subparsers) -> None:
    """Add repair."""
    parser = add_command(
        commands,
        "repair",
        _repair,
        summary="Put back from the journal what a Redis that took over has lost",
        details=_DETAILS,
    )
    parser.add_argument("shard", metavar="SHARD", type=positive_number)
    parser.add_argument("--dry-run", action="store_true", help="list what is lost, change nothing")


def _repair(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    with venue_servers(settings, with_postgres=False) as servers:
        return asyncio.run(_run(settings, servers.redis_url, args.shard, dry_run=args.dry_run))


async def _run(settings: Settings, url: str, shard_id: int, *, dry_run: bool) -> int:
    async with accounts_link(settings, url, name="shardex-command") as link:
        shards = shard_map(settings, link.url)
        shard = _shard(shards, shard_id)
        homes = await read_homes(link, [shard])
        with_ledger = has_ledger(shard, shards.shards)
        if not with_ledger:
            await _check_ledger(settings, link, shards)
        async with link.sibling(shard.db, name="shardex-repair-lease") as lease_link:
            owner = f"{OWNER_PREFIX}{os.getpid()}:{secrets.token_hex(4)}"
            lease = Lease(lease_link, owner=owner, ttl_ms=settings.engine.lease_ttl_ms)
            repair = Repair(link, lease, homes, with_ledger=with_ledger)
            found = await repair.look(records_of(settings, shard, homes))
            if dry_run:
                return _print_dry(settings, shard, found)
            async with led(lease, shard, found):
                short = await repair.run(
                    found, on_done=lambda one: print(f"{_line(settings, one)}: restored")
                )
    return _print_done(settings, shard, found, short)


def _shard(shards: ShardMap, shard_id: int) -> Shard:
    for shard in shards.shards:
        if shard.id == shard_id and shard.symbols:
            return shard
    raise CommandFailed(f"shard {shard_id}: there is none with symbols")


@asynccontextmanager
async def led(lease: Lease, shard: Shard, found: Found) -> AsyncIterator[None]:
    """Hold a shard's lease.

    Args:
        lease: not acquired.
        shard: whose.
        found: what is lost of it, for the message where somebody else has the lease.

    Raises:
        CommandFailed: an engine leads the shard, or another repair is at it.
    """
    owner = "somebody"
    try:
        async with asyncio.timeout(LEASE_WAIT_S + lease.ttl_ms / 1_000):
            while (held := await lease.try_acquire()) is not None:
                owner = held.owner
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise CommandFailed(f"shard {shard.id}: {_why_not(owner, found)}") from None
    keeping = asyncio.create_task(_keep(lease))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait((keeping,))
        await lease.release()


def _why_not(owner: str, found: Found) -> str:
    """Return why a shard cannot be repaired while somebody has its lease."""
    if owner.startswith(OWNER_PREFIX):
        return f"another repair is under way ({owner})"
    if found.lost:
        # It has never seen the journal that has them: that was on another machine.
        return f"{owner} leads it, and {_count(found)} are lost: stop its engines, then try again"
    return f"{owner} leads it, and nothing is lost"


async def _keep(lease: Lease) -> None:
    while True:
        await asyncio.sleep(lease.ttl_ms / 1_000 / RENEWALS_PER_TTL)
        await retry_while_away(lease.renew, what="repair", out_of_memory_too=True)


async def _check_ledger(settings: Settings, link: RedisLink, shards: ShardMap) -> None:
    """Refuse while the ledger, which another shard's engines journal, is not whole.

    Raises:
        CommandFailed: it lacks entries.
    """
    lowest = min(shard.id for shard in shards.shards if shard.symbols)
    journalled = max(
        (
            JournalReader(directory).positions().get(LEDGER, 0)
            for directory in _directories(settings, lowest)
        ),
        default=0,
    )
    end = last_number(await link.call(*last_entry(keys.LEDGER)))
    if end < journalled:
        raise CommandFailed(
            f"the ledger ends at {end}, its journal at {journalled}: shardex repair {lowest} first"
        )


def _directories(settings: Settings, shard_id: int) -> list[Path]:
    paths = [journal_directory(settings, name) for name in keys.engine_names(shard_id)]
    return [path for path in paths if path.is_dir()]


def records_of(
    settings: Settings, shard: Shard, homes: Mapping[str, Home]
) -> Callable[[], Iterator[Record]]:
    """Return what reads a shard's journal: of the two, for each stream the longer one.

    It is read as far as it goes now: streams have everything first, so what they lack of that when
    they are read later is lost. (What a venue that trades adds to its journal meanwhile is not.)

    Raises:
        CommandFailed: there is none, or it is of other incarnations of the symbols.
        JournalCorrupt, JournalMismatch: it is damaged, or its beginning is gone.
    """
    directories = _directories(settings, shard.id)
    if not directories:
        raise CommandFailed(f"shard {shard.id}: there is no journal in {settings.var_dir}")
    ends = {directory: JournalReader(directory).positions() for directory in directories}
    wanted = [LEDGER, *shard.symbols, *map(skip_key, shard.symbols)]
    source = {key: max(directories, key=lambda one: ends[one].get(key, 0)) for key in wanted}

    def read() -> Iterator[Record]:
        for directory in directories:
            for record in JournalReader(directory):
                is_known = record.seq <= ends[directory].get(record.key, 0)
                if is_known and source.get(record.key) == directory:
                    yield record

    for symbol in shard.symbols:
        first = next((record for record in read() if record.key == symbol), None)
        if first is not None:
            _check_incarnation(first, homes[symbol])
    return read


def _check_incarnation(first: Record, home: Home) -> None:
    command = decode_command(first.payload)
    assert isinstance(command, DefineSymbol), "Invariant: a stream begins with its definition"
    if command.incarnation != home.incarnation:
        raise CommandFailed(
            f"{home.symbol}: the journal is of incarnation {command.incarnation}, Redis has"
            f" {home.incarnation}: the symbol was defined anew"
        )


def _print_dry(settings: Settings, shard: Shard, found: Found) -> int:
    for one in found.lost:
        print(f"{_line(settings, one)}: lost")
    print(f"shard {shard.id}: {_count(found)} lost; nothing was changed (--dry-run)")
    return EXIT_OK


def _print_done(settings: Settings, shard: Shard, found: Found, short: list[Short]) -> int:
    for one in short:
        has = _amount(settings, one.lost.asset, one.available)
        print(f"{_line(settings, one.lost)}: not restored, the account has {has} available")
    if short:
        print(f"shard {shard.id}: stopped; what follows in these streams is lost until then, too")
        return EXIT_FAILED
    print(f"shard {shard.id}: {_count(found)} restored; an engine may lead it again")
    return EXIT_OK


def _count(found: Found) -> str:
    entries = sum(one.key == LEDGER for one in found.lost)
    return f"{entries} ledger entries and {len(found.lost) - entries} commands"


def _line(settings: Settings, one: Lost) -> str:
    """Return what an entry is, in one line, without secrets."""
    content = one.content
    account = getattr(content, "account", None)
    parts = [f"{one.key} {one.record.seq}: {type(content).__name__ if content else 'no command'}"]
    if account is not None:
        parts.append(f"account {account}")
    cl_ord_id = getattr(content, "cl_ord_id", "")
    if cl_ord_id:
        parts.append(f"{'of' if isinstance(content, QueryOrder) else 'ClOrdID'} {cl_ord_id}")
    if isinstance(content, Deposited):
        parts.append(_amount(settings, content.asset, content.amount))
    elif one.amount:
        parts.append(f"needs {_amount(settings, one.asset, one.amount)}")
    return ", ".join(parts)


def _amount(settings: Settings, asset: str, amount: int) -> str:
    return f"{DecimalGrid.of_scale(settings.scales().get(asset, 0)).format(amount)} {asset}"
