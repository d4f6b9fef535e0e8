"""The writer on real servers: exact rows, each exactly once, and only into tables of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis.asyncio

from engine.enums import OrdRejReason
from engine.events import Output
from engine.ledger_entries import UserChanged, UserCreated, UserDisabled
from ops.embedded_postgres import EmbeddedPostgres
from persistence.batch import BatchBuilder
from persistence.errors import (
    PositionConflict,
    PostgresUnavailable,
    SchemaMismatch,
    VenueMismatch,
    WriteFailed,
)
from persistence.execution_rows import decode_event
from persistence.writer import PostgresWriter
from tests.helpers import DEADLINE_S, eventually_async
from tests.persistence_events import (
    INCARNATION,
    SYMBOL,
    TS_US,
    random_outputs,
    scenario,
)
from tests.persistence_servers import (
    ALL_SCALES,
    LEDGER,
    PATIENT,
    SECOND,
    dump,
    publish,
    query,
    running,
    service,
    until_written,
)

# CommandComplete, then ReadyForQuery (idle): what answers a COMMIT.
COMMITTED = b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I"


async def test_rows_of_a_small_day_are_exact(redis_url: str, postgres_url: str) -> None:
    await publish(redis_url, scenario(skips=True), ledger=LEDGER)
    async with running(service(redis_url, postgres_url)) as writer:
        await until_written(writer, ALFA=14, ledger=6)
    orders = query(
        postgres_url,
        "SELECT seq, user_id, cl_ord_id, side, type, time_in_force, price, quantity, "
        "remaining_quantity, filled_quantity, status FROM orders ORDER BY seq",
    )
    cent = Decimal("0.01")
    assert orders == [
        (2, 1, "c4", "buy", "limit", "gtc", 4900 * cent, 8, 4, 4, "partially_filled"),
        (3, 2, "c3", "sell", "limit", "gtc", 5000 * cent, 4, 0, 4, "filled"),
        (5, 1, "c5", "buy", "limit", "gtc", 5000 * cent, 2, 0, 2, "filled"),
        (6, 2, "c6", "sell", "market", "ioc", 4950 * cent, 5, 0, 2, "expired"),
        (7, 1, "c\\7\tx", "buy", "limit", "gtc", 5000 * cent, 1_000_000, 0, 0, "rejected"),
        (9, 2, "c9", "sell", "limit", "gtc", 5100 * cent, 10, 0, 0, "canceled"),
        (12, 1, "c12", "buy", "limit", "gtc", 4000 * cent, 3, 0, 0, "rejected"),
    ]
    skipped = "SELECT reject_reason, reject_text FROM orders WHERE seq = 12"
    assert query(postgres_url, skipped) == [(99, "Skipped by an operator: a bug")]
    (refusal,) = query(postgres_url, "SELECT reject_reason, reject_text FROM orders WHERE seq = 7")
    assert refusal[0] == OrdRejReason.INCORRECT_QUANTITY
    assert "1000000" in refusal[1]
    trades = query(
        postgres_url,
        "SELECT symbol, seq, index, maker_order_id, taker_order_id, maker_user_id, taker_user_id, "
        "taker_side, price, quantity, maker_fee, taker_fee FROM trades ORDER BY seq",
    )
    assert trades == [
        (SYMBOL, 3, 0, f"{SYMBOL}-2", f"{SYMBOL}-3", 1, 2, "sell", 50, 4, 2 * cent, 4 * cent),
        (SYMBOL, 6, 0, f"{SYMBOL}-5", f"{SYMBOL}-6", 1, 2, "sell", 50, 2, 1 * cent, 2 * cent),
    ]


async def test_settings_of_users_are_rows_that_stand_as_they_were_set_last(
    redis_url: str, postgres_url: str
) -> None:
    await publish(redis_url, scenario(), ledger=LEDGER)
    stored = "SELECT user_id, field, value, position FROM user_settings ORDER BY 1, 2"
    async with running(service(redis_url, postgres_url)) as writer:
        await until_written(writer, ledger=6)
        changes = [
            UserChanged(1, "orders_per_s", "5"),
            UserChanged(2, "drop_copy", "1"),
            UserChanged(1, "keys", "k\\1\tk2"),
        ]
        await publish(redis_url, [], ledger=changes)
        await until_written(writer, ledger=9)
        assert query(postgres_url, stored) == [
            (1, "keys", "k\\1\tk2", 9),
            (1, "orders_per_s", "5", 7),
            (2, "drop_copy", "1", 8),
        ]
        last = [UserChanged(1, "orders_per_s", ""), UserDisabled(2)]
        await publish(redis_url, [], ledger=last)
        await until_written(writer, ledger=11)
    assert query(postgres_url, stored) == [
        (1, "keys", "k\\1\tk2", 9),
        (1, "orders_per_s", "", 10),
        (2, "drop_copy", "", 11),
    ]


async def test_balances_and_ledger_of_a_small_day_add_up(redis_url: str, postgres_url: str) -> None:
    await publish(redis_url, scenario(skips=True), ledger=LEDGER)
    async with running(service(redis_url, postgres_url)) as writer:
        await until_written(writer, ALFA=14, ledger=6)
    balances = query(
        postgres_url, "SELECT user_id, asset, available, held FROM balances ORDER BY 1, 2"
    )
    assert balances == [
        (0, "USD", Decimal("0.09"), 0),
        (1, "ALFA", 6, 0),
        (1, "USD", Decimal("503.9108"), Decimal("196.0592")),
        (2, "ALFA", 94, 0),
        (2, "USD", Decimal("299.94"), 0),
    ]
    totals = "SELECT asset, sum(available + held) FROM balances GROUP BY asset ORDER BY asset"
    assert query(postgres_url, totals) == [("ALFA", 100), ("USD", 1000)]
    ledger = query(
        postgres_url,
        "SELECT stream, position, user_id, kind, asset, amount, ref FROM ledger ORDER BY 1, 2, 3",
    )
    cent = Decimal("0.01")
    assert ledger == [
        (SYMBOL, 3, 1, "maker_fee", "USD", -2 * cent, f"{SYMBOL}-3-0"),
        (SYMBOL, 3, 2, "taker_fee", "USD", -4 * cent, f"{SYMBOL}-3-0"),
        (SYMBOL, 6, 1, "maker_fee", "USD", -1 * cent, f"{SYMBOL}-6-0"),
        (SYMBOL, 6, 2, "taker_fee", "USD", -2 * cent, f"{SYMBOL}-6-0"),
        ("ledger", 5, 1, "deposit", "USD", 1000, "d1"),
        ("ledger", 6, 2, "deposit", "ALFA", 100, "d2"),
    ]


async def test_executions_hold_every_event_of_every_account(
    redis_url: str, postgres_url: str
) -> None:
    await publish(redis_url, scenario(skips=True), ledger=LEDGER)
    async with running(service(redis_url, postgres_url)) as writer:
        await until_written(writer, ALFA=14)
    stored = query(postgres_url, "SELECT seq, index, event FROM executions ORDER BY seq, index")
    events = [(o.seq, e.index, e) for o in scenario(skips=True)[1:] for e in o.events]
    assert [(seq, index, decode_event(event)) for seq, index, event in stored] == events
    skipped = "SELECT user_id, seq FROM executions WHERE kind = 'skipped' ORDER BY seq"
    assert query(postgres_url, skipped) == [(1, 12), (1, 13), (0, 14)]


async def test_restarts_and_other_cuts_give_the_same_rows(
    redis_url: str, postgres_url: str, embedded_postgres: EmbeddedPostgres
) -> None:
    """Stop at any moment, forget the published position, go on: as if written in one go."""
    outputs = random_outputs(1, 400) + random_outputs(2, 300, symbol=SECOND)
    symbols = (SYMBOL, SECOND)
    await publish(redis_url, [], ledger=LEDGER)
    for start in range(0, len(outputs), 100):
        await publish(redis_url, outputs[start : start + 100])
        writer = service(redis_url, postgres_url, symbols=symbols, batch_rows_max=7)
        async with running(writer):
            await eventually_async(lambda w=writer: w.stats()["entries"] >= 40)
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await client.delete("position:writer")
    async with running(service(redis_url, postgres_url, symbols=symbols)) as writer:
        await until_written(writer, ALFA=400, BETA=300, ledger=6)
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute("DROP DATABASE IF EXISTS replayed WITH (FORCE)")
        db.execute("CREATE DATABASE replayed")
    replayed = embedded_postgres.url.rpartition("/")[0] + "/replayed"
    async with running(service(redis_url, replayed, symbols=symbols)) as writer:
        await until_written(writer, ALFA=400, BETA=300, ledger=6)
    assert dump(postgres_url) == dump(replayed)
    totals = "SELECT asset, sum(available + held)::int FROM balances GROUP BY asset ORDER BY asset"
    assert query(postgres_url, totals) == [("ALFA", 100), ("BETA", 0), ("USD", 1000)]
    fees = "SELECT (SELECT sum(amount) FROM ledger WHERE kind LIKE '%fee') + available "
    assert query(postgres_url, f"{fees} FROM balances WHERE user_id = 0") == [(0,)]
    untraded = """
        SELECT o.id FROM orders o
        LEFT JOIN trades t ON o.id IN (t.maker_order_id, t.taker_order_id)
        GROUP BY o.id HAVING o.filled_quantity <> coalesce(sum(t.quantity), 0)"""
    assert query(postgres_url, untraded) == []


async def test_users_are_written_before_their_orders(redis_url: str, postgres_url: str) -> None:
    """More new users than one read takes, all with the first order of the last of them."""
    users = [UserCreated(n, f"user{n}", "hash") for n in range(1, 1_201)]
    fields = scenario()[1]
    order = Output(
        SYMBOL,
        2,
        TS_US,
        [
            type(e)(**{f: getattr(e, f) for f in e.__struct_fields__} | {"account": 1_200})
            for e in fields.events
        ],
        [],
    )
    async with running(service(redis_url, postgres_url, batch_rows_max=1)) as writer:
        await publish(redis_url, [scenario()[0], order], ledger=users)
        await until_written(writer, ALFA=2, ledger=1_200)
    assert query(postgres_url, "SELECT user_id FROM orders") == [(1_200,)]


async def batches(writer: PostgresWriter) -> BatchBuilder:
    stored = await writer.load({SYMBOL: INCARNATION}, ALL_SCALES)
    builder = BatchBuilder(
        rows_max=1,
        age_ns_max=1,
        positions=stored.positions,
        formats=stored.formats,
        scales=stored.scales,
    )
    for n, entry in enumerate(LEDGER, 1):
        if n > stored.positions["ledger"]:
            builder.add_ledger_entry(n, TS_US, entry, now_ns=0)
    return builder


@contextlib.asynccontextmanager
async def proxy(postgres_url: str, lose: asyncio.Event) -> AsyncIterator[str]:
    """The URL of a proxy that, while `lose` is set, ends instead of answering a COMMIT."""
    parts = urlsplit(postgres_url)

    async def forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass on what comes, and the end too."""
        while data := await source.read(65_536):
            if lose.is_set() and data == COMMITTED:
                lose.clear()
                break
            target.write(data)
        target.close()
        await target.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(parts.hostname, parts.port)
        passing = asyncio.gather(forward(reader, server_writer), forward(server_reader, writer))
        connections.append(passing)
        await passing

    connections: list[asyncio.Future[Any]] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}").geturl()
    server.close()
    await asyncio.gather(*connections)


async def test_batch_whose_commit_was_not_answered_is_written_once(postgres_url: str) -> None:
    lose = asyncio.Event()
    async with proxy(postgres_url, lose) as url:
        writer = PostgresWriter(url, PATIENT)
        builder = await batches(writer)
        for output in scenario():
            builder.add_output(output, now_ns=0)
        batch = builder.take()
        lose.set()
        with pytest.raises(PostgresUnavailable):
            await writer.write(batch)
        assert not lose.is_set()
        once = dump(postgres_url)
        assert len(once["executions"]) == 15
        await writer.write(batch)
        assert dump(postgres_url) == once
        with pytest.raises(PositionConflict):
            await writer.write(batch)
        await writer.close()


async def test_second_writer_is_refused_and_writes_nothing(postgres_url: str) -> None:
    first, second = (PostgresWriter(postgres_url, PATIENT) for _ in range(2))
    ours, theirs = await batches(first), await batches(second)
    for output in scenario()[:5]:
        ours.add_output(output, now_ns=0)
    for output in scenario()[:6]:
        theirs.add_output(output, now_ns=0)
    await first.write(ours.take())
    before = dump(postgres_url)
    with pytest.raises(PositionConflict, match=f"another writer is at work.*{SYMBOL} 5"):
        await second.write(theirs.take())
    assert dump(postgres_url) == before
    await first.close()
    await second.close()


async def test_two_services_on_one_database_lose_one(redis_url: str, postgres_url: str) -> None:
    await publish(redis_url, [], ledger=LEDGER)
    one = service(redis_url, postgres_url, batch_rows_max=3)
    two = service(redis_url, postgres_url, batch_rows_max=4)
    tasks = [asyncio.create_task(one.run()), asyncio.create_task(two.run())]
    await eventually_async(lambda: one.stats()["positions"] and two.stats()["positions"])
    await publish(redis_url, random_outputs(3, 300))
    done, pending = await asyncio.wait(
        tasks, return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_S
    )
    assert len(done) == 1
    with pytest.raises(ExceptionGroup) as caught:
        await done.pop()
    assert caught.group_contains(PositionConflict)
    left = one if tasks[0] in pending else two
    await until_written(left, ALFA=300)
    survivor = pending.pop()
    survivor.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await survivor
    assert query(postgres_url, "SELECT max(position) FROM stream_positions") == [(300,)]


async def test_refused_row_leaves_position_and_tables_as_they_were(postgres_url: str) -> None:
    writer = PostgresWriter(postgres_url, PATIENT)
    builder = BatchBuilder(
        rows_max=1,
        age_ns_max=1,
        positions=(await writer.load({SYMBOL: INCARNATION}, ALL_SCALES)).positions,
        formats={},
        scales=ALL_SCALES,
    )
    for output in scenario():
        builder.add_output(output, now_ns=0)
    with pytest.raises(WriteFailed, match=f"{SYMBOL} 1 to 11.*violates foreign key"):
        await writer.write(builder.take())
    assert query(postgres_url, "SELECT sum(position) FROM stream_positions") == [(0,)]
    assert query(postgres_url, "SELECT count(*) FROM symbols") == [(0,)]
    await writer.close()


async def test_other_incarnation_or_scale_is_refused_by_name(postgres_url: str) -> None:
    writer = PostgresWriter(postgres_url, PATIENT)
    await writer.load({SYMBOL: INCARNATION}, ALL_SCALES)
    with pytest.raises(VenueMismatch, match=f"{SYMBOL}: .* incarnation {INCARNATION}, .* other"):
        await writer.load({SYMBOL: "other"}, ALL_SCALES)
    with pytest.raises(VenueMismatch, match=r"assets.USD.scale: .* scale 6, the venue's is 2"):
        await writer.load({SYMBOL: INCARNATION}, {"USD": 2})
    await writer.close()


async def test_two_writers_may_create_the_tables_at_once(postgres_url: str) -> None:
    writers = [PostgresWriter(postgres_url, PATIENT) for _ in range(4)]
    stored = await asyncio.gather(*(w.load({SYMBOL: INCARNATION}, ALL_SCALES) for w in writers))
    assert all(one.positions == {SYMBOL: 0, "ledger": 0} for one in stored)
    for writer in writers:
        await writer.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TABLE schema_version AS SELECT 7 AS version", "version 7, expected 3"),
        ("CREATE TABLE orders (id int)", "tables of somebody else.*orders"),
    ],
)
async def test_tables_that_are_not_ours_are_refused(
    postgres_url: str, statement: str, message: str
) -> None:
    with psycopg.connect(postgres_url) as db:
        db.execute(statement.encode())
    with pytest.raises(SchemaMismatch, match=message):
        await PostgresWriter(postgres_url, PATIENT).load({}, {})


async def test_encoding_that_cannot_hold_every_text_is_refused(
    embedded_postgres: EmbeddedPostgres,
) -> None:
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute("DROP DATABASE IF EXISTS latin")
        db.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = embedded_postgres.url.rpartition("/")[0] + "/latin"
    with pytest.raises(SchemaMismatch, match="encoding of database latin is LATIN1"):
        await PostgresWriter(url, PATIENT).load({}, {})
