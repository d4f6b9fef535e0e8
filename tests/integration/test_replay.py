"""A venue that traded: its journals replayed, its database rebuilt, its FIX messages audited.

And each of them finds its damage: a price changed in a journal, a row in PostgreSQL, a FIX message
or a command taken away.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import redis
from psycopg import sql

from engine.commands import NewOrder, decode_command, encode_command
from engine.enums import OrdType
from engine.journal_keys import LEDGER, hash_key
from engine.journal_reader import JournalReader, segment_paths
from gateway.fixlog import INBOUND, OUTBOUND
from ops.audit_journals import audit_journals
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from ops.endpoints import Credentials
from ops.journal_replay import replay_journal
from ops.journal_replay_symbols import OUTPUTS_SHOWN_MAX
from ops.torture_trader import Trader
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually, eventually_async
from tests.replay_journals import record_of, rewrite
from tests.venue import Peer

DATABASE = "test_replay"
SYMBOLS = ("ALFA-USD", "GAMMA-USD")
ANSWERS = 150


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory,
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
) -> Iterator[ExchangeProcess]:
    """An exchange in which three traded, users came and went, and all is at rest."""
    with redis.Redis.from_url(embedded_redis.url) as client:
        client.flushall()
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    process = ExchangeProcess(
        tmp_path_factory.mktemp("replay"),
        SHARDEX_REDIS_URL=embedded_redis.url,
        SHARDEX_POSTGRES_URL=embedded_postgres.url.rpartition("/")[0] + f"/{DATABASE}",
    )
    try:
        process.start()
        added = process.json("user", "add", "dora", "--password-stdin", stdin="secret\n")
        assert added["journalled_by"] == "engine-1"
        paid = process.json("deposit", "dora", "USD", "12.5", "--ref", "d1")
        assert paid["journalled_by"] == "engine-1"
        asyncio.run(trade(process))
        assert process.call("user", "disable", "dora").out == "dora: disabled\n"
        written = "SELECT stream, position FROM stream_positions"
        eventually(lambda: dict(process.query(written)) == ends(process))
        eventually(lambda: journals_are_whole(process))
        yield process
    finally:
        process.stop()


def ends(exchange: ExchangeProcess) -> dict[str, int]:
    """Return where each stream ends."""
    with exchange.redis() as client:
        settled = {name.decode(): int(seq) for name, seq in client.hgetall("settled").items()}
        return settled | {"ledger": client.xlen("ledger")}


def journals_are_whole(exchange: ExchangeProcess) -> bool:
    """Tell whether the journals, written beside all else, have all: hashes, and the last Logouts.

    The last that a gateway hears is a Logout, and the last that it says the answer: see ``trade``.
    """
    journals = exchange.var / "journals"
    positions: dict[str, int] = {}
    for path in journals.glob("engine-*"):
        positions |= JournalReader(path).positions()
    wanted = {key if key == LEDGER else hash_key(key): seq for key, seq in ends(exchange).items()}
    lasts = {
        (path.name, one.flags): one.payload
        for path in journals.glob("gateway-*")
        for one in JournalReader(path)
    }
    return wanted.items() <= positions.items() and all(
        b"\x0135=5\x01" in lasts.get((f"gateway-{number}", direction), b"")
        for number in (1, 2)
        for direction in (INBOUND, OUTBOUND)
    )


async def trade(exchange: ExchangeProcess) -> None:
    """Have three clients trade through both gateways until each has its answers; reset one."""
    endpoints = exchange.endpoints
    traders = [
        Trader(
            Credentials(user["sender_comp_id"], user["username"], user["password"]),
            endpoints["target_comp_id"],
            SYMBOLS,
            seed=f"{number}",
            ports=lambda: [one["port"] for one in endpoints["fix"]],
            gateway=number % 2,
            pause_s=0.012,
            roams=False,
        )
        for number, user in enumerate(endpoints["users"][:3])
    ]

    def answers() -> int:
        return min(sum(one.record.answers.values()) for one in traders)

    async with asyncio.TaskGroup() as tasks:
        runs = [tasks.create_task(trader.run()) for trader in traders]
        await eventually_async(lambda: all(one.is_active for one in traders))
        for trader in traders:
            trader.trading = True
        await eventually_async(lambda: answers() >= ANSWERS)
        for trader in traders:
            trader.trading = False
        await eventually_async(
            lambda: not any(one.record.unanswered or one.record.expiring for one in traders)
        )
        for run in runs:
            run.cancel()
    await refusals_and_a_reset(exchange)
    await exchange.released(3)
    await log_out(await exchange.log_on(3, gateway=1))


async def refusals_and_a_reset(exchange: ExchangeProcess) -> None:
    """Have a client refused in each way, begin its numbers anew, and trade on."""
    peer = await exchange.log_on(3)
    for text, answer in (
        ("35=D|11=r1|55=NONE-USD|54=1|60=now|38=5|40=2|44=1.00", {"t35": "8", "t150": "8"}),
        ("35=F|11=r2|41=r1|55=NONE-USD|54=1|60=now", {"t35": "9"}),
        ("35=D|11=r3|55=ALFA-USD|54=1|60=now|38=5|40=2", {"t35": "j", "t380": "5"}),
        ("35=D|11=r4|55=ALFA-USD|54=1|60=now|38=x|40=2|44=1", {"t35": "3"}),
        ("35=D|11=a1|55=ALFA-USD|54=1|60=now|38=5|40=2|44=1.00", {"t35": "8", "t150": "0"}),
    ):
        peer.send(text)
        await peer.expect(answer.pop("t35"), **answer)
    peer.next_out = 1
    user = exchange.endpoints["users"][3]
    peer.logon(int(user["sender_comp_id"]), user["username"], user["password"].encode(), reset="Y")
    await peer.expect("A", t141="Y")
    peer.send("35=D|11=a2|55=ALFA-USD|54=1|60=now|38=5|40=2|44=1.00")
    await peer.expect("8", t150="0")
    peer.send("35=F|11=c2|41=a2|55=ALFA-USD|54=1|60=now")
    await peer.expect("8", t150="4")
    await log_out(peer)


async def log_out(peer: Peer) -> None:
    peer.send("35=5")
    await peer.expect("5")
    await peer.close()


@pytest.fixture
def journals(exchange: ExchangeProcess, tmp_path: Path) -> Path:
    """A copy of its journals, to be damaged."""
    return Path(shutil.copytree(exchange.var / "journals", tmp_path / "journals"))


def run_json(exchange: ExchangeProcess, *arguments: str, code: int = 0) -> Any:
    done = exchange.call(*arguments, "--json")
    assert done.code == code, done
    return json.loads(done.out)


def test_every_output_is_recomputed_and_has_its_recorded_hash(exchange: ExchangeProcess) -> None:
    result = run_json(exchange, "replay", "--journal", str(exchange.var / "journals"))
    settled = ends(exchange)
    assert result["differences"] == []
    commands = {one["symbol"]: one["commands"] for one in result["symbols"]}
    assert commands == {symbol: seq for symbol, seq in settled.items() if symbol != "ledger"}
    assert result["outputs_checked"] == result["commands"] == sum(commands.values())
    assert result["ledger"] == {"engine-1": settled["ledger"]}

    done = exchange.call("replay", "--journal", str(exchange.var / "journals" / "engine-1"))
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("clean: 1 journals, ")


def test_the_database_is_rebuilt_from_journals_alone_and_a_changed_row_is_found(
    exchange: ExchangeProcess,
) -> None:
    live = exchange.endpoints["postgres_url"]
    name = f"live/{DATABASE}_rebuilt"
    into = ("replay", "--journal", str(exchange.var / "journals"), "--into", name)
    done = exchange.call(*into)
    assert done.code == 0, done
    assert done.out.splitlines()[-1].startswith("rebuilt: ")
    again = exchange.call(*into)
    assert again.code == 1
    assert f"database {DATABASE}_rebuilt is not empty" in again.err

    equal = exchange.call("diff", "live", name)
    assert equal.code == 0, equal.out
    assert equal.out.splitlines()[-1].startswith("equal: 13 tables, ")

    with psycopg.connect(live + "_rebuilt") as db:
        db.execute("UPDATE balances SET held = held + 1 WHERE user_id = 0 AND asset = 'USD'")
    found = exchange.call("diff", "live", name)
    assert found.code == 1
    assert "balances: user_id 0, asset USD: held: A 0, B 1" in found.out
    assert found.out.splitlines()[-1].startswith("1 differences: ")


def first_accepted(directory: Path, symbol: str) -> int:
    """Return the seq of a symbol's first limit order far into the journal."""
    return next(
        record.seq
        for record in JournalReader(directory)
        if record.key == symbol
        and record.seq > 50
        and isinstance(command := decode_command(record.payload), NewOrder)
        and command.ord_type is OrdType.LIMIT
        and command.price_ticks > 10
    )


def test_a_price_changed_in_the_journal_is_found(exchange: ExchangeProcess, journals: Path) -> None:
    journal = journals / "engine-1"
    symbol = SYMBOLS[0]
    seq = first_accepted(journal, symbol)
    record = record_of(journal, symbol, seq)
    command = decode_command(record.payload)
    assert isinstance(command, NewOrder)
    changed = msgspec.structs.replace(command, price_ticks=command.price_ticks - 1)
    payload = encode_command(changed)
    forged = msgspec.structs.replace(record, payload=payload)
    rewrite(journal, lambda one: forged if one == record else one)
    result = run_json(exchange, "replay", "--journal", str(journal), code=1)
    # What came later may differ for it, too.
    difference = next(one for one in result["differences"] if one["kind"] == "outputs")
    assert difference["symbol"] == symbol
    assert difference["first"] <= seq <= difference["last"]
    shown = difference["outputs"][seq - difference["first"] :]
    assert f"seq={seq}," in shown[0] if shown else len(difference["outputs"]) == OUTPUTS_SHOWN_MAX

    audited = run_json(exchange, "audit", "--journals", str(journals), code=1)
    [terms] = audited["differences"]
    assert (terms["kind"], terms["cl_ord_id"]) == ("terms", command.cl_ord_id)
    assert "Price (44)" in terms["text"]


def test_a_damaged_journal_is_a_difference_and_what_is_before_it_counts(
    exchange: ExchangeProcess, journals: Path
) -> None:
    path = segment_paths(journals / "engine-1")[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = exchange.call("replay", "--journal", str(journals / "engine-1"))
    assert done.code == 1
    assert f"{path} is corrupt at byte" in done.out


def test_the_audit_is_clean(exchange: ExchangeProcess) -> None:
    result = run_json(exchange, "audit")
    assert result["differences"] == []
    assert result["unanswered_first"] == []
    assert result["commands"] == result["commands_matched"] > 2 * ANSWERS
    assert result["refused"] >= 4
    assert result["messages"] == result["matched"] + result["refused"] + result["resent"]

    in_parts = audit_journals(exchange.var / "journals", commands_per_pass=100)
    assert in_parts.passes > 2
    assert (in_parts.commands_matched, in_parts.messages) == (
        result["commands_matched"],
        result["messages"],
    )

    done = exchange.call("audit")
    assert done.code == 0
    assert done.out.startswith("clean: ")


def test_a_message_taken_out_of_the_fix_journal_is_found(
    exchange: ExchangeProcess, journals: Path
) -> None:
    seq = first_accepted(journals / "engine-1", SYMBOLS[0])
    command = decode_command(record_of(journals / "engine-1", SYMBOLS[0], seq).payload)
    assert isinstance(command, NewOrder)
    named = (str(command.account), command.msg_seq_num, INBOUND)
    journal, taken = next(
        (journal, record)
        for journal in (journals / "gateway-1", journals / "gateway-2")
        for record in JournalReader(journal)
        if (record.key, record.seq, record.flags) == named
    )
    rewrite(journal, lambda record: None if record == taken else record)
    [difference] = audit_journals(journals).differences
    assert difference.kind == "no message"
    assert (difference.account, difference.msg_seq_num) == (command.account, taken.seq)


def test_a_command_taken_out_of_the_engines_journal_is_found(
    exchange: ExchangeProcess, journals: Path
) -> None:
    journal = journals / "engine-1"
    symbol = SYMBOLS[0]
    seq = first_accepted(journal, symbol)
    command = decode_command(record_of(journal, symbol, seq).payload)
    assert isinstance(command, NewOrder)
    rewrite(journal, lambda one: None if (one.key, one.seq) == (symbol, seq) else one)
    [difference] = audit_journals(journals).differences
    assert (difference.kind, difference.cl_ord_id) == ("no command", command.cl_ord_id)
    found = replay_journal(journal).differences
    assert ("sequence", seq + 1) in [(one.kind, one.first) for one in found]
