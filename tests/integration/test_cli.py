"""The command line beside an exchange that runs on existing Redis and PostgreSQL servers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ops.__main__ import build_parser, main
from ops.cli import EXIT_FAILED, EXIT_USAGE
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from persistence.schema import SCHEMA_VERSION
from router.ledger_journal import wait_until_journalled
from tests.exchange_process import ROOT, ExchangeProcess, own_servers
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually
from tests.venue import Peer

DATABASE = "test_cli"


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """Have commands take processes for alive and wait for them, however slow the machine is."""
    waiting = partial(wait_until_journalled, timeout_s=DEADLINE_S)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ops.journalled.wait_until_journalled", waiting)
        for module in ("ops.status", "ops.engine_roles", "router.process_registry"):
            patch.setattr(f"{module}.SILENT_AFTER_MS", DEADLINE_MS)
        yield


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory,
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
) -> Iterator[ExchangeProcess]:
    process = ExchangeProcess(
        tmp_path_factory.mktemp("cli"),
        **own_servers(embedded_redis.url, embedded_postgres.url, DATABASE),
    )
    taken = socket.create_server(("127.0.0.1", int(process.environment["SHARDEX_GATEWAY__PORT"])))
    try:
        process.start()
        # From here on commands find the servers by endpoints.json.
        del process.environment["SHARDEX_REDIS_URL"], process.environment["SHARDEX_POSTGRES_URL"]
        yield process
    finally:
        process.stop()
        taken.close()


def add_user(exchange: ExchangeProcess, username: str) -> int:
    added = exchange.json("user", "add", username, "--password-stdin", stdin="secret\n")
    account = added["sender_comp_id"]
    wanted = {"sender_comp_id": account, "username": username, "journalled_by": "engine-1"}
    assert added == wanted
    return int(account)


def test_a_port_that_is_taken_is_passed_over_and_said_so(exchange: ExchangeProcess) -> None:
    wanted = int(exchange.environment["SHARDEX_GATEWAY__PORT"])
    ports = [one["port"] for one in exchange.endpoints["fix"]]
    assert wanted < ports[0] < ports[1]
    said = f"gateway-1: port {wanted} is taken, listening on {ports[0]}"
    assert said in exchange.said


def test_existing_servers_are_used_and_none_is_started(
    exchange: ExchangeProcess, embedded_redis: EmbeddedRedis
) -> None:
    assert exchange.endpoints["redis_url"] == embedded_redis.url
    assert not (exchange.var / "redis").exists()
    assert not (exchange.var / "postgres").exists()


async def test_a_user_is_added_logs_on_gets_another_password_and_is_disabled(
    exchange: ExchangeProcess,
) -> None:
    account = add_user(exchange, "carol")
    assert exchange.call("deposit", "carol", "USD", "1000", "--ref", "carol-1").code == 0
    port = exchange.endpoints["fix"][0]["port"]
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.logon(account, "carol", b"secret")
    await peer.expect("A")
    peer.send("35=D|11=c1|55=ALFA-USD|54=1|60=now|38=3|40=2|44=7.00")
    await peer.expect("8", t150="0", t11="c1")

    done = exchange.call("user", "passwd", str(account), "--password-stdin", stdin="other\n")
    assert (done.code, done.out) == (0, "carol: password changed\n")
    done = exchange.call("user", "disable", "carol")
    assert (done.code, done.out) == (0, "carol: disabled\n")
    assert exchange.call("user", "disable", "carol").out == "carol: was disabled already\n"
    await peer.expect("5")
    await peer.close()
    eventually(lambda: exchange.balances(str(account)) == {"USD:a": 10**9, "USD:h": 0, "USD:p": 0})

    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.next_out = 10
    peer.logon(account, "carol", b"other")
    assert "disabled" in (await peer.expect("5"))["58"]
    await peer.close()
    users = exchange.json("user", "list")
    carol = next(user for user in users if user["username"] == "carol")
    assert (carol["sender_comp_id"], carol["disabled"]) == (account, True)
    stored = "SELECT password_hash, disabled FROM users WHERE id = %s"
    eventually(lambda: [row[1] for row in exchange.query(stored, account)] == [True])
    assert exchange.query(stored, account)[0][0].startswith("$argon2id$")


def test_settings_of_a_user_are_set_and_shown(exchange: ExchangeProcess) -> None:
    dave, copier = add_user(exchange, "dave"), add_user(exchange, "copier")

    limits = ("--max-open-orders", "50", "--orders-per-s", "20", "--max-order-value", "USD=1000.5")
    assert exchange.call("user", "set", "dave", *limits).code == 0
    assert exchange.call("user", "set", "dave", "--cancel-on-disconnect", "30").code == 0
    assert exchange.call("user", "set", str(dave), "--orders-per-s", "off").code == 0
    assert exchange.call("user", "drop-copy", "copier", "--of", "dave").code == 0

    shown = exchange.json("user", "show", "dave")
    assert (shown["max_open_orders"], shown["orders_per_s"]) == (50, None)
    assert [Decimal(value) for value in shown["max_order_value"].values()] == [Decimal("1000.5")]
    assert shown["cancel_on_disconnect_s"] == 30
    assert shown["copied_to"] == [copier]
    assert exchange.json("user", "show", "copier")["drop_copy_of"] == [dave]
    assert "1000.5" in exchange.call("user", "show", "dave").out

    assert exchange.call("user", "drop-copy", "copier", "--none").code == 0
    assert exchange.json("user", "show", "dave")["copied_to"] == []
    assert exchange.call("user", "disable", "copier").code == 0
    for code, *wrong in (
        (EXIT_USAGE, "set", "dave"),
        (EXIT_USAGE, "set", "dave", "--max-open-orders", "many"),
        (EXIT_FAILED, "set", "dave", "--max-open-orders", "0"),
        (EXIT_USAGE, "set", "dave", "--max-order-value", "USD"),
        (EXIT_FAILED, "drop-copy", "dave", "--of", "dave"),
        (EXIT_FAILED, "drop-copy", "copier", "--of", "dave"),
    ):
        assert exchange.call("user", *map(str, wrong)).code == code, wrong


def test_deposits_count_once_and_withdrawals_stay_within_what_is_there(
    exchange: ExchangeProcess,
) -> None:
    account = add_user(exchange, "dora")
    first = exchange.json("deposit", "dora", "USD", "12.5", "--ref", "d1")
    again = exchange.json("deposit", str(account), "USD", "12.5", "--ref", "d1")
    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["entry"] == again["entry"]
    assert first["journalled_by"] == again["journalled_by"] == "engine-1"
    refused = exchange.call("deposit", "dora", "USD", "12.6", "--ref", "d1")
    assert refused.code == 1
    assert refused.err == (
        f"shardex: ref d1: used for another request (ledger entry {first['entry']})\n"
    )
    refused = exchange.call("withdraw", "dora", "USD", "12.500001", "--ref", "d2")
    assert (refused.code, refused.out) == (1, "")
    assert "has less than that of USD available" in refused.err
    assert exchange.json("withdraw", "dora", "USD", "12.4", "--ref", "d3")["is_new"]
    assert exchange.json("balances", "dora") == [
        {
            "username": "dora",
            "sender_comp_id": account,
            "asset": "USD",
            "available": "0.100000",
            "pending": "0.000000",
            "held": "0.000000",
        }
    ]
    rows = "SELECT kind, amount, ref FROM ledger WHERE user_id = %s ORDER BY position"
    expected = [("deposit", Decimal("12.5"), "d1"), ("withdrawal", Decimal("-12.4"), "d3")]
    eventually(lambda: exchange.query(rows, account) == expected)


@pytest.mark.parametrize(
    ("arguments", "stdin", "reason"),
    [
        (["deposit", "nobody", "USD", "1", "--ref", "x"], "", "nobody: there is no such user"),
        (["deposit", "9999", "USD", "1", "--ref", "x"], "", "9999: there is no such user"),
        (["deposit", "1", "EUR", "1", "--ref", "x"], "", "EUR: no [[assets]] block"),
        (["balances", "nobody"], "", "nobody: there is no such user"),
        (["book", "NONE-USD"], "", "NONE-USD: no such symbol; there are ALFA-USD, BETA-USD"),
        (["user", "add", "12"], "", "username 12: digits alone would be a SenderCompID"),
        (["user", "add", "erin"], "", "use --password-stdin"),
        (["user", "add", "erin", "--password-stdin"], "\n", "expected a password of 1 to 128"),
        (["user", "passwd", "nobody", "--password-stdin"], "x\n", "nobody: there is no such"),
        (["user", "disable", "nobody"], "", "nobody: there is no such user"),
        (["fixlog", "--gateway", "gateway-9"], "", "there is no journal of gateway-9"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(
    exchange: ExchangeProcess, arguments: list[str], stdin: str, reason: str
) -> None:
    refused = exchange.call(*arguments, stdin=stdin)
    assert refused.code == 1
    assert refused.out == ""
    assert len(refused.err.splitlines()) == 1
    assert reason in refused.err


def test_a_process_alone_says_in_its_log_why_it_cannot_run(exchange: ExchangeProcess) -> None:
    refused = exchange.run("engine", "--shard", "9")
    assert (refused.code, refused.out) == (1, "")
    assert "ERROR ops: shard 9: no [[shards]] block has this id" in refused.err


def test_status_and_symbols_print_data(exchange: ExchangeProcess) -> None:
    def status_without_problems() -> dict[str, Any]:
        # An engine that the machine held up does not lead, until its next sign of life.
        status: dict[str, Any] = exchange.json("status")
        return {} if status["problems"] or not all(status["leaders"].values()) else status

    def symbols_with_phases() -> list[dict[str, Any]]:
        symbols: list[dict[str, Any]] = exchange.json("symbols")
        return symbols if all(one["phase"] for one in symbols) else []

    status = eventually(status_without_problems)
    assert [one["name"] for one in status["processes"]] == [
        *("engine-1", "engine-2", "gateway-1", "gateway-2", "marketdata", "writer")
    ]
    assert status["leaders"]["shard-2"]["owner"].startswith("engine-2:")
    assert set(status["lags"]) == {"engine-1", "engine-2", "marketdata", "writer"}
    assert status["schema_version"] == SCHEMA_VERSION
    text = exchange.call("status").out
    assert "engine-1" in text
    assert "PostgreSQL  18" in text
    symbols = eventually(symbols_with_phases)
    assert [one["symbol"] for one in symbols] == exchange.endpoints["symbols"]
    assert symbols[3]["shard"] == symbols[3]["db"] == 2
    assert {one["phase"] for one in symbols} == set(status["phases"].values()) == {"continuous"}
    assert "46107638.64" in exchange.call("symbols").out


async def test_a_book_is_crossed_before_its_opening_and_not_after_it(
    exchange: ExchangeProcess,
) -> None:
    async def phase(name: str) -> Any:
        wait = ("--wait", f"{DEADLINE_S:.0f}")
        return await asyncio.to_thread(exchange.json, "phase", "BETA-USD", name, *wait)

    assert (await phase("pre-open"))["changed"]
    peer = await exchange.log_on(1)
    for cl_ord_id, side, price in (("p1", 1, "51.00"), ("p2", 2, "49.00")):
        terms = f"11={cl_ord_id}|55=BETA-USD|54={side}|38=5|40=2|44={price}|59=2"
        peer.send(f"35=D|{terms}|60=now")
        await peer.expect("8", t150="0")

    def book() -> tuple[list[str], list[str]]:
        shown = exchange.json("book", "BETA-USD")
        return [one["price"] for one in shown["bids"]], [one["price"] for one in shown["asks"]]

    eventually(lambda: book() == (["51.00"], ["49.00"]))
    assert "ask  49.00" in exchange.call("book", "BETA-USD").out
    opened = await phase("continuous")
    assert (opened["auction_price"], opened["auction_volume"]) == ("49.00", "5")
    for _ in range(2):
        await peer.expect("8", t150="F", t31="49.00")
    eventually(lambda: book() == ([], []))
    peer.send("35=5")
    await peer.expect("5")
    await peer.close()


async def test_watch_follows_trades_and_quotes_and_fixlog_has_the_messages(
    exchange: ExchangeProcess,
) -> None:
    with exchange.background("watch", "DELTA-USD") as lines:
        eventually(lambda: lines() and "joined" in lines()[0] and "bid -  ask -" in lines()[0])
        peer = await exchange.log_on(0)
        peer.send("35=D|11=w1|55=DELTA-USD|54=2|60=now|38=5|40=2|44=40.00")
        await peer.expect("8", t150="0")
        peer.send("35=D|11=w2|55=DELTA-USD|54=1|60=now|38=2|40=2|44=40.00|7928=0")
        await peer.expect("8", t150="0")
        await peer.expect("8", t150="F")
        fill = await peer.expect("8", t150="F")
        eventually(lambda: any(line.endswith("bid -  ask 3 @ 40.00") for line in lines()))
        trade = f"trade 2 @ 40.00 buy {fill['527']}"
        eventually(lambda: any(trade in line for line in lines()))
        book = exchange.json("book", "DELTA-USD", "--levels", "1")
        assert book["bids"] == []
        await peer.close()
    username = exchange.endpoints["users"][0]["username"]
    logged = exchange.call("fixlog", "--session", username, "--type", "D", "--json").out
    messages = [json.loads(line) for line in logged.splitlines()]
    assert [message["direction"] for message in messages] == ["<", "<"]
    assert "|11=w1|" in messages[0]["text"]
    assert messages[0]["gateway"] == "gateway-1"
    assert "554=***" in exchange.call("fixlog", "--session", username, "--type", "A").out


def test_without_a_running_exchange_commands_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exchange.toml").write_text((ROOT / "exchange.toml").read_text())
    assert main(["balances"]) == 1
    assert "no exchange runs here" in capsys.readouterr().err
    monkeypatch.setenv("SHARDEX_GATEWAY__PROT", "1")
    assert main(["up"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "shardex: environment SHARDEX_GATEWAY__PROT: unknown setting\n"
    assert not (tmp_path / "var").exists()
    monkeypatch.delenv("SHARDEX_GATEWAY__PROT")
    (tmp_path / "exchange.toml").unlink()
    assert main(["symbols"]) == 1
    assert "exchange.toml: No such file" in capsys.readouterr().err


def test_assertions_must_be_on(tmp_path: Path) -> None:
    command = [sys.executable, "-O", "-m", "ops", "symbols"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 1
    assert "python -O removes the checks of invariants: refused" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["deposit", "1"],
        ["up", "--levels"],
        ["book", "ALFA-USD", "--levels", "0"],
        ["replay-flow", "flow.csv", "--symbol", "ALFA-USD", "--rows", "-1"],
        ["simulate", "--orders", "many"],
        ["simulate", "--speed", "0"],
        ["simulate", "--speed", "fast"],
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: shardex" in capsys.readouterr().err


def test_simulate_asks_for_a_symbol_or_a_venue_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["simulate", "--orders", "1"]) == 1
    said = capsys.readouterr().err
    assert "--symbol" in said and "--private" in said


def test_every_command_explains_itself_and_its_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    names = {"up", "status", "user", "deposit", "withdraw", "balances", "symbols", "book", "watch"}
    names |= {"fixlog", "gateway", "engine", "marketdata", "writer", "replay-flow", "simulate"}
    names |= {"replay", "diff", "audit"}
    text = capsys.readouterr().out
    assert names <= set(text.split())
    commands = [[name] for name in names - {"user"}]
    commands += [["user", action] for action in ("add", "list", "passwd", "disable")]
    parser = build_parser()
    for command in commands:
        with pytest.raises(SystemExit) as caught:
            parser.parse_args([*command, "--help"])
        assert caught.value.code == 0
        assert "exit codes:" in capsys.readouterr().out
