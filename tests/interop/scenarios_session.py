"""Sessions that break and go on: cuts, lost messages, killed clients and gateways, resends."""

from __future__ import annotations

import os
import signal

from tests.interop.clients import Client, Message
from tests.interop.stage import BUY, SELL, Stage


async def logs_on_and_out_and_numbers_go_on(stage: Stage) -> None:
    """A second logon goes on with the numbers, a third one with 141=Y begins at 1."""
    client = await stage.client()
    await client.connect()
    await client.log_out()
    await client.connect()
    assert client.admin_in[-1][34] == "3", client.admin_in
    await client.log_out()
    await client.connect({141: "Y"})
    assert client.admin_in[-1].matches("A", {34: "1", 141: "Y"}), client.admin_in
    await _trade_a_little(stage, client)


async def cut_off_and_goes_on_with_missed_executions(stage: Stage) -> None:
    """The connection breaks; fills and cancels meanwhile arrive after the logon."""
    client, other = await stage.traders()
    resting = await stage.rest(client, SELL, "5", "10.00")
    proxy, logons = stage.proxy(client), client.logons
    proxy.refuses = True
    proxy.cut()
    await client.until(lambda: client.logouts > 0, "the cut is noticed")
    for qty in ("2", "3"):
        await other.send("D", stage.order(BUY, qty, "10.00"))
        await other.expect("8", {150: "0"})
        await other.expect("8", {150: "F", 32: qty})
    proxy.refuses = False
    await client.until(lambda: client.logons > logons, "logged on again")
    await client.expect("8", {11: resting, 150: "F", 32: "2", 14: "2", 39: "1"})
    await client.expect("8", {11: resting, 150: "F", 32: "3", 14: "5", 39: "2"})
    await _trade_a_little(stage, client)


async def answers_lost_on_the_way_are_resent(stage: Stage) -> None:
    """Reports that never arrived are asked for after the next logon, and come with 43=Y."""
    client = await stage.trader()
    proxy = stage.proxy(client)
    proxy.loses_answers = True
    order = stage.order(BUY, "1", "10.00")
    await client.send("D", order)
    await proxy.lost()
    proxy.cut()
    logons = client.logons
    proxy.loses_answers = False
    await client.until(lambda: client.logons > logons, "logged on again")
    await client.expect("8", {11: order[0][1], 150: "0", 43: "Y"})
    assert any(message[35] == "2" for message in client.admin_out), "it asks for a resend"
    await stage.cancel_resting(client, order[0][1], BUY)


async def orders_lost_on_the_way_are_resent(stage: Stage) -> None:
    """Orders that never arrived are asked for by the venue, and dealt with once."""
    client = await stage.trader()
    proxy = stage.proxy(client)
    proxy.loses_requests = True
    order = stage.order(BUY, "1", "10.00")
    await client.send("D", order)
    await proxy.lost()
    proxy.cut()
    logons = client.logons
    proxy.loses_requests = False
    await client.until(lambda: client.logons > logons, "logged on again")
    if stage.engine.resends_orders:
        await client.expect("8", {11: order[0][1], 150: "0"})
        await stage.cancel_resting(client, order[0][1], BUY)
    else:
        await client.until(
            lambda: any(message[35] == "4" for message in client.admin_out), "it fills the gap"
        )
        await _trade_a_little(stage, client)
    assert any(message[35] == "2" for message in client.admin_in), "the venue asks for a resend"


async def killed_client_goes_on_with_its_store(stage: Stage) -> None:
    """The client's process is killed; a new one with the same files gets what it missed."""
    client, other = await stage.traders()
    resting = await stage.rest(client, BUY, "5", "10.00")
    await client.kill()
    await other.send("D", stage.order(SELL, "2", "10.00"))
    await other.expect("8", {150: "0"})
    await other.expect("8", {150: "F", 32: "2"})
    await client.start()
    await client.connect()
    message = await client.next()
    # What it had not stored as received is resent, marked as such.
    while message[43] == "Y" and message[150] == "0":
        message = await client.next()
    assert message.matches("8", {11: resting, 150: "F", 32: "2", 151: "3"}), message
    await stage.cancel_resting(client, resting, BUY)


async def killed_gateway_is_left_for_the_other(stage: Stage) -> None:
    """The gateway is killed -9; the session goes on at the other one, nothing is missed."""
    client = await stage.client(both_gateways=True)
    await client.connect()
    resting = await stage.rest(client, SELL, "5", "10.00")
    logons = client.logons
    os.kill(stage.gateway_pid(1), signal.SIGKILL)
    await client.until(lambda: client.logons > logons, "logged on at the other gateway")
    other = await stage.client(both_gateways=True)
    await other.connect()
    await other.send("D", stage.order(BUY, "5", "10.00"))
    await other.expect("8", {150: "0"})
    await other.expect("8", {150: "F", 32: "5"})
    await client.expect("8", {11: resting, 150: "F", 32: "5", 39: "2"})
    await _trade_a_little(stage, client)


async def idle_session_lives_on_heartbeats(stage: Stage) -> None:
    """Nobody says anything for some heartbeat intervals; both sides keep the session."""
    client = await stage.client(heart_bt_int_s=1)
    await client.connect()
    await client.until(
        lambda: min(_count(client.admin_in, "0"), _count(client.admin_out, "0")) >= 4, "heartbeats"
    )
    await _trade_a_little(stage, client)
    assert client.logouts == 0, "the session was kept"


async def dead_line_is_noticed_by_both(stage: Stage) -> None:
    """Nothing arrives any more, on either side: each asks, gives up, and the client comes back."""
    client = await stage.client(heart_bt_int_s=1)
    await client.connect()
    order = await stage.rest(client, BUY, "1", "10.00")
    proxy, logons = stage.proxy(client), client.logons
    proxy.loses_requests = proxy.loses_answers = True
    await client.until(lambda: client.logouts > 0, "the client gives up")
    proxy.loses_requests = proxy.loses_answers = False
    await client.until(lambda: client.logons > logons, "logged on again")
    await stage.cancel_resting(client, order, BUY)


async def silent_client_is_asked(stage: Stage) -> None:
    """The venue hears nothing and sends a TestRequest; what was lost meanwhile is made up for."""
    client = await stage.client(heart_bt_int_s=1)
    await client.connect()
    proxy = stage.proxy(client)
    proxy.loses_requests = True
    await client.until(lambda: _count(client.admin_in, "1") > 0, "a TestRequest")
    logons = client.logons
    proxy.cut()
    proxy.loses_requests = False
    await client.until(lambda: client.logons > logons, "logged on again")
    await _trade_a_little(stage, client)


async def _trade_a_little(stage: Stage, client: Client) -> None:
    order = await stage.rest(client, BUY, "1", "9.00")
    await stage.cancel_resting(client, order, BUY)


def _count(messages: list[Message], msg_type: str) -> int:
    return sum(message[35] == msg_type for message in messages)


SCENARIOS = [
    idle_session_lives_on_heartbeats,
    dead_line_is_noticed_by_both,
    silent_client_is_asked,
    logs_on_and_out_and_numbers_go_on,
    cut_off_and_goes_on_with_missed_executions,
    answers_lost_on_the_way_are_resent,
    orders_lost_on_the_way_are_resent,
    killed_client_goes_on_with_its_store,
    killed_gateway_is_left_for_the_other,
]
