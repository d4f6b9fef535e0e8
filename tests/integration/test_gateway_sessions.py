"""FIX sessions of gateways on a real Redis: logon, limits, another gateway, resend, reset, stop."""

from __future__ import annotations

import time

import pytest

from engine.enums import Side, TimeInForce
from gateway import contest, server
from gateway.fix_time import UtcTimestampWriter
from gateway.fixlog import FixLogFilter, read_fixlog
from gateway.server import Gateway
from ops import fix_client
from ops.errors import FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator
from ops.fix_orders import OrderBodies
from router import keys
from router.users import disable_user
from tests.helpers import DEADLINE_S, eventually_async
from tests.venue import PASSWORD, USD, Venue, limit_order


async def test_full_gateway_says_so(venue: Venue) -> None:
    small = venue.settings.gateway.model_copy(update={"max_sessions": 1})
    async with venue.gateway(settings=small) as gateway:
        first = await venue.trader(gateway, "first")
        second = await venue.add_user("second")
        peer = await venue.connect(gateway)
        peer.logon(second, "second", PASSWORD)
        await peer.expect("5", t58="Gateway full: 1 sessions are logged on")
        await peer.expect_closed()
        first.send("35=5")
        await first.expect("5")
        await eventually_async(lambda: not gateway.stats()["sessions"])
        await venue.released(second)
        await venue.log_on(gateway, second, "second")


async def test_failed_logons_are_limited(venue: Venue) -> None:
    strict = venue.settings.gateway.model_copy(update={"logon_failures_free": 0})
    now_ns = time.time_ns()
    # Time stands still, so that the wait after a failure does not end.
    async with venue.gateway(settings=strict, now_ns=lambda: now_ns) as gateway:
        account = await venue.add_user("user")
        for number in (1, 2):
            await (await venue.log_on(gateway, account, "user", next_out=number)).close()
            await venue.released(account)
        texts = []
        for _ in range(2):
            peer = await venue.connect(gateway)
            peer.logon(account, "user", b"wrong")
            texts.append((await peer.expect("5"))["58"])
        assert texts[0].startswith("Wrong") and texts[1].startswith("Too many failed logons")


@pytest.mark.parametrize("counts", [True, False])
async def test_client_that_was_refused_goes_on_with_its_numbers_at_the_first_right_logon(
    venue: Venue, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    monkeypatch.setattr(fix_client, "CONNECT_TIMEOUT_S", DEADLINE_S)
    monkeypatch.setattr(fix_client, "LOGOUT_TIMEOUT_S", DEADLINE_S)
    account = await venue.add_user("user", USD=10_000 * USD)

    def identity(password: bytes) -> Identity:
        return Identity(str(account), "SHARDEX", "user", password.decode())

    client = FixClient(Initiator(identity(PASSWORD)), on_messages=lambda messages: None)
    await client.connect("127.0.0.1", gateway.bound_port, reset=False)
    await client.logout()
    next_in, next_out = client.initiator.next_in, client.initiator.next_out
    await venue.released(account)

    for _ in range(3):
        wrong = FixClient(Initiator(identity(b"wrong")), on_messages=lambda messages: None)
        wrong.initiator.set_numbers(next_in=next_in, next_out=next_out)
        with pytest.raises(FixClientFailed, match="Wrong"):
            await wrong.connect("127.0.0.1", gateway.bound_port, reset=False)
        assert wrong.initiator.next_in == next_in + 1, "the Logout has the number expected"
        if counts:
            next_in, next_out = wrong.initiator.next_in, wrong.initiator.next_out
        else:
            break

    received: list[str] = []
    client = FixClient(
        Initiator(identity(PASSWORD)),
        on_messages=lambda messages: received.extend(one.msg_type.decode() for one in messages),
    )
    client.initiator.set_numbers(next_in=next_in, next_out=next_out)
    await client.connect("127.0.0.1", gateway.bound_port, reset=False)
    bodies = OrderBodies("BTC-USD", tick_size="0.05", lot_size="0.01", stp=None)
    now = UtcTimestampWriter().write(time.time_ns())
    client.send(
        *bodies.new(
            b"a1",
            Side.BUY,
            price_ticks=20,
            qty_lots=100,
            time_in_force=TimeInForce.GTC,
            time=now,
        )
    )
    client.flush()
    await eventually_async(lambda: received == ["8"])
    await client.logout()


async def test_quiet_session_gets_heartbeats_and_a_test_request(venue: Venue) -> None:
    begin_ns, passed_ms = time.time_ns(), 0
    # The timers look at this clock, and go off often enough: once in each HeartBtInt.
    async with venue.gateway(now_ns=lambda: begin_ns + passed_ms * 1_000_000) as gateway:
        account = await venue.add_user("user")
        peer = await venue.connect(gateway)
        peer.logon(account, "user", PASSWORD, heart_bt_int_s=1)
        await peer.expect("A", t108="1")
        passed_ms = 1_000
        await peer.expect("0")
        passed_ms = 1_200
        await peer.expect("1")
        passed_ms = 2_400
        await peer.expect_closed()
        await eventually_async(lambda: not gateway.stats()["connections"])


@pytest.fixture
async def standing_venue(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> Venue:
    """The venue, where a machine that stands still for long loses no session to another gateway."""
    lasting = {"redis": venue.settings.redis.model_copy(update={"session_ttl_ms": 60_000})}
    venue.settings = venue.settings.model_copy(update=lasting)
    monkeypatch.setattr(contest, "_SLACK_S", DEADLINE_S)
    return venue


async def test_second_connection_of_a_user_is_dropped(
    standing_venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "PROBE_TIMEOUT_S", DEADLINE_S)
    venue = standing_venue
    async with venue.gateway() as gateway, venue.gateway("gateway-2") as other:
        first = await venue.trader(gateway, "user")
        for one in (gateway, other):
            second = await venue.connect(one)
            second.logon(first.account, "user", PASSWORD)
            asked = await first.expect("1")
            first.send(f"35=0|112={asked['112']}")
            await second.expect_closed()
        first.send("35=1|112=alive")
        await first.expect("0", t112="alive")


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_client_that_vanished_without_a_word_does_not_lock_itself_out(
    standing_venue: Venue, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    monkeypatch.setattr(contest, "PROBE_TIMEOUT_S", 0.2)
    venue = standing_venue
    async with venue.gateway() as gateway, venue.gateway("gateway-2") as other:
        vanished = await venue.trader(gateway, "user")
        vanished.send(limit_order("a1", 1, "1", "1"))
        await vanished.expect("8", t150="0")
        back = await venue.log_on(
            other if elsewhere else gateway, vanished.account, "user", next_out=vanished.next_out
        )
        back.send(limit_order("a2", 1, "1", "1"))
        await back.expect("8", t150="0", t11="a2")
        await vanished.expect("1")
        await vanished.expect_closed()


async def test_disabled_user_is_logged_out_and_stays_out(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "user")
    peer.send(limit_order("a1", 1, "1", "1"))
    await peer.expect("8", t150="0")
    await disable_user(venue.link, account=peer.account, homes=venue.homes)
    await peer.expect("5", t58="User disabled")
    again = await venue.connect(gateway)
    again.logon(peer.account, "user", PASSWORD)
    await again.expect("5", t58="User disabled")


async def test_session_goes_on_at_another_gateway_with_what_was_missed(venue: Venue) -> None:
    async with venue.gateway("gateway-1") as first, venue.gateway("gateway-2") as second:
        maker = await venue.trader(first, "maker")
        taker = await venue.trader(second, "taker")
        maker.send(limit_order("s1", 2, "1", "100"))
        last = await maker.expect("8", t150="0")
        await maker.close()
        await venue.released(maker.account)
        taker.send(limit_order("b1", 1, "1", "100"))
        await taker.expect("8", t150="0")
        await taker.expect("8", t150="F")
        back = await venue.log_on(second, maker.account, "maker", next_out=maker.next_out)
        missed = await back.expect("8", t150="F", t11="s1", t851="1")
        assert int(missed["34"]) == int(last["34"]) + 2, "the Logon took one number"
        assert "43" not in missed


async def test_gateway_parts_with_a_session_whose_outbox_has_gone_on_without_it(
    venue: Venue, gateway: Gateway
) -> None:
    stuck, other = await venue.trader(gateway, "stuck"), await venue.trader(gateway, "other")
    account = stuck.account
    entries = [("XADD", keys.outbox(account), f"{n}-0", "e", b"") for n in range(1, 5)]
    # In one write, so that the gateway does not hear of it bit by bit.
    await venue.link.pipeline(
        [
            ("HINCRBY", keys.session(account), "epoch", 1),
            *entries,
            ("XTRIM", keys.outbox(account), "MINID", "4-0"),
            ("PUBLISH", keys.WAKE_CHANNEL, f"{account} {other.account}"),
        ]
    )
    await stuck.expect_closed()
    other.send(limit_order("a1", 1, "1", "1"))
    await other.expect("8", t150="0")


async def test_resend_gives_stored_reports_and_fills_the_gaps(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "user")
    for number in range(3):
        peer.send(limit_order(f"a{number}", 1, "1", "1"))
        await peer.expect("8", t150="0")
    peer.send("35=1|112=t")
    await peer.expect("0", t34="5")
    peer.send("35=2|7=1|16=0")
    await peer.expect("4", t34="1", t36="2", t123="Y", t43="Y")
    for number in range(3):
        again = await peer.expect("8", t34=str(number + 2), t43="Y", t11=f"a{number}")
        assert "122" in again
    await peer.expect("4", t34="5", t36="6")


async def test_reset_in_and_outside_a_session_starts_at_one(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "user")
    peer.send(limit_order("a0", 1, "1", "1"))
    await peer.expect("8", t150="0", t34="2")
    peer.next_out = 1
    peer.send("35=A|98=0|108=30|141=Y")
    await peer.expect("A", t34="1", t141="Y")
    peer.send(limit_order("a1", 1, "1", "1"))
    await peer.expect("8", t150="0", t34="2", t11="a1")
    peer.send("35=5")
    await peer.expect("5", t34="3")
    await venue.released(peer.account)
    back = await venue.log_on(gateway, peer.account, "user", reset="Y")
    assert back.received[0].get(34) == b"1"


async def test_clean_stop_logs_out_and_the_journal_reads_back(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_STOP_TIMEOUT_S", DEADLINE_S)
    patient = venue.settings.gateway.model_copy(update={"logout_timeout_s": 60})
    async with venue.gateway(settings=patient) as gateway:
        peer = await venue.trader(gateway, "user")
        peer.send(limit_order("a0", 1, "1", "1"))
        await peer.expect("8", t150="0")
        gateway.stop()
        await peer.expect("5", t58="The gateway is stopping; log on again")
        peer.send("35=5")
        await peer.expect_closed()
    directory = venue.settings.var_dir / "journals" / "gateway-1"
    lines = list(read_fixlog(directory, FixLogFilter(session=peer.account)))
    shown = [(line.direction, line.name) for line in lines]
    assert shown[:4] == [
        ("<", "Logon"),
        (">", "Logon"),
        ("<", "NewOrderSingle"),
        (">", "ExecutionReport"),
    ]
    assert [name for _, name in shown[4:]].count("Logout") == 2
    assert "|554=***|" in lines[0].text and "secret" not in lines[0].text
    assert "|11=a0|" in lines[2].text
    only = FixLogFilter(msg_types=frozenset("D"), from_ns=lines[2].ts_ns)
    assert [line.msg_type for line in read_fixlog(directory, only)] == ["D"]
    async with venue.gateway() as gateway:
        back = await venue.log_on(gateway, peer.account, "user", next_out=peer.next_out)
        assert back.received[0].get(34) == b"4"
