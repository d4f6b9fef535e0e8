"""Mass requests, drop copy, account limits and cancel on disconnect over FIX."""

from __future__ import annotations

from engine.enums import CancelReason
from engine.events import OrderCanceled, decode_output
from gateway.server import Gateway
from router import keys
from router.user_fields import set_user_field
from tests.helpers import eventually_async
from tests.venue import PASSWORD, Peer, Venue, limit_order


async def rest(peer: Peer, *cl_ord_ids: str, symbol: str = "BTC-USD") -> None:
    """Put orders into the book that meet nobody."""
    for cl_ord_id in cl_ord_ids:
        order = limit_order(cl_ord_id, 1, "1", "100").replace("BTC-USD", symbol)
        peer.send(order)
        await peer.expect("8", t150="0", t11=cl_ord_id)


async def open_count(venue: Venue, account: int) -> int:
    count: int = await venue.link.call("HLEN", keys.open_orders(account))
    return count


async def until_canceled(venue: Venue, account: int) -> None:
    async def nothing_is_open() -> bool:
        return await open_count(venue, account) == 0

    await eventually_async(nothing_is_open)


async def disconnected_orders(venue: Venue) -> int:
    """Return how many orders have been canceled because somebody was gone."""
    count = 0
    for symbol, home in venue.homes.items():
        async with venue.link.sibling(home.db) as link:
            for _, fields in await link.call("XRANGE", keys.events(symbol), "-", "+"):
                count += sum(
                    type(event) is OrderCanceled and event.reason is CancelReason.DISCONNECTED
                    for event in decode_output(fields[1]).events
                )
    return count


# -------------------------------------------------------------------- mass requests


async def test_all_orders_of_all_shards_are_canceled_behind_the_answer(
    venue: Venue, gateway: Gateway
) -> None:
    alice = await venue.trader(gateway, "alice")
    await rest(alice, "a1", "a2")
    await rest(alice, "a3", symbol="ETH-USD")
    alice.send("35=q|11=m1|530=7|60=now")
    await alice.expect("r", t11="m1", t530="7", t531="7")
    ends = [await alice.expect("8", t150="4", t39="4", t11="m1") for _ in range(3)]
    assert {end["41"] for end in ends} == {"a1", "a2", "a3"}


async def test_mass_cancel_that_could_not_reach_a_shard_says_so(
    venue: Venue, gateway: Gateway
) -> None:
    alice = await venue.trader(gateway, "alice")
    await rest(alice, "a1")
    await rest(alice, "a2", symbol="ETH-USD")
    async with venue.link.sibling(2) as link:
        mark = await link.call("GET", keys.CLEARED)
        await link.call("SET", keys.CLEARED, "")
        alice.send("35=q|11=m1|530=7|60=now")
        refused = await alice.expect("r", t11="m1", t530="7", t531="0", t532="99")
        await link.call("SET", keys.CLEARED, mark)
    assert "ETH-USD" in refused["58"]
    await alice.expect("8", t150="4", t41="a1")


async def test_open_orders_are_listed_on_request(venue: Venue, gateway: Gateway) -> None:
    alice = await venue.trader(gateway, "alice")
    alice.send("35=AF|584=s0|585=7")
    await alice.expect("8", t150="I", t39="8", t37="NONE", t584="s0", t911="0", t912="Y")
    await rest(alice, "a1", "a2")
    await rest(alice, "a3", symbol="ETH-USD")
    alice.send("35=AF|584=s1|585=7")
    listed = [await alice.expect("8", t150="I", t584="s1", t911="3") for _ in range(3)]
    assert {one["11"] for one in listed} == {"a1", "a2", "a3"}
    assert [one["912"] for one in listed] == ["N", "N", "Y"]
    alice.send("35=AF|584=s2|585=1|55=ETH-USD")
    await alice.expect("8", t150="I", t584="s2", t911="1", t11="a3", t151="1.00", t912="Y")


async def test_a_long_list_goes_out_in_parts_however_many_numbers_are_leased(
    venue: Venue, gateway: Gateway
) -> None:
    account = await venue.add_user("alice")
    values = []
    for number in range(2_500):
        values += [keys.open_field("BTC-USD", f"a{number}"), f"{number + 1} 1 100 5 0 500 20 2 1 0"]
    await venue.link.call("HSET", keys.open_orders(account), *values)
    alice = await venue.log_on(gateway, account, "alice")
    alice.send("35=AF|584=s1|585=7")
    listed = [await alice.expect("8", t150="I", t911="2500") for _ in range(2_500)]
    assert len({one["11"] for one in listed}) == 2_500
    assert [one["34"] for one in listed] == [str(number) for number in range(2, 2_502)]
    assert [index for index, one in enumerate(listed) if one["912"] == "Y"] == [2_499]
    # So many reports were sent that the lists are off the session's account again.
    alice.send("35=AF|584=s2|585=1|55=ETH-USD")
    await alice.expect("8", t150="I", t584="s2", t911="0")
    await venue.link.call("DEL", keys.open_orders(account))


# -------------------------------------------------------------------- drop copy


async def test_a_drop_copy_has_each_report_once_with_resend_on_any_gateway(
    venue: Venue, gateway: Gateway
) -> None:
    copier = await venue.add_user("copier")
    alice = await venue.trader(gateway, "alice")
    bob = await venue.trader(gateway, "bob")
    of = f"{alice.account} {bob.account}"
    await set_user_field(venue.link, account=copier, field="drop_copy", value=of)
    peer = await venue.log_on(gateway, copier, "copier")

    await rest(alice, "a1")
    first = await peer.expect("8", t1=str(alice.account), t150="0", t11="a1")
    bob.send(limit_order("b1", 2, "1", "100"))
    originals = [await bob.expect("8"), await bob.expect("8"), await alice.expect("8", t150="F")]
    copies = [await peer.expect("8") for _ in originals]
    assert {one["17"] for one in copies} == {one["17"] for one in originals}
    alice.send("35=F|11=a2|41=a1|55=BTC-USD|54=1|60=now")
    await alice.expect("9", t11="a2")
    await peer.expect("9", t1=str(alice.account), t11="a2")
    # A message that is refused as such is between its sender and us.
    alice.send("35=D|11=a3|55=BTC-USD|54=1|60=now|40=2|38=1")
    await alice.expect("j")
    alice.send(limit_order("a4", 1, "1", "0.01"))
    refused = await alice.expect("8", t150="8", t11="a4")
    copy = await peer.expect("8", t150="8", t11="a4", t1=str(alice.account))
    assert copy["17"] == refused["17"]

    await peer.close()
    await rest(alice, "a5")
    await venue.released(copier)
    async with venue.gateway("gateway-2") as other:
        again = await venue.log_on(other, copier, "copier", next_out=peer.next_out)
        await again.expect("8", t150="0", t11="a5", t34="9")
        again.send("35=2|7=2|16=2")
        resent = await again.expect("8", t43="Y", t34="2", t11="a1", t1=str(alice.account))
        assert resent["17"] == first["17"]


async def test_a_drop_copy_is_told_what_it_has_lost_where_it_is_missing(
    venue: Venue, gateway: Gateway
) -> None:
    copier = await venue.add_user("copier")
    alice = await venue.trader(gateway, "alice")
    of = str(alice.account)
    await set_user_field(venue.link, account=copier, field="drop_copy", value=of)
    await rest(alice, "a1")
    lost = (copier, 7, f"{copier}:since", 1_700_000_000_000_000)
    await venue.link.call("HSET", keys.LOST, *lost)
    peer = await venue.log_on(gateway, copier, "copier")
    await peer.expect("8", t11="a1")
    told = await peer.expect("j", t372="8", t380="0")
    assert told["58"] == (
        "Copies lost: 7, from 20231114-22:13:20.000 on: too many were not fetched"
    )
    assert "45" not in told
    await rest(alice, "a2")
    await peer.expect("8", t11="a2")


async def test_a_drop_copy_session_sends_no_orders(venue: Venue, gateway: Gateway) -> None:
    alice = await venue.trader(gateway, "alice")
    copier = await venue.trader(gateway, "copier")
    field = {"account": copier.account, "field": "drop_copy"}
    await rest(copier, "c1")
    await set_user_field(venue.link, **field, value=str(alice.account))  # type: ignore[arg-type]
    await until_reads_only(gateway, copier)
    for text in (
        limit_order("c2", 1, "1", "100"),
        "35=F|11=c3|41=c1|55=BTC-USD|54=1|60=now",
        "35=q|11=c4|530=7|60=now",
        "35=AF|584=c5|585=7",
    ):
        copier.send(text)
        await copier.expect("j", t380="6", t372=text[3:].partition("|")[0])
    await set_user_field(venue.link, **field, value="")  # type: ignore[arg-type]
    await until_reads_only(gateway, copier, is_so=False)
    copier.send("35=F|11=c6|41=c1|55=BTC-USD|54=1|60=now")
    await copier.expect("8", t150="4", t41="c1")


async def until_reads_only(gateway: Gateway, peer: Peer, *, is_so: bool = True) -> None:
    active = gateway._keeper.active
    await eventually_async(lambda: active[peer.account].only_reads is is_so)


# -------------------------------------------------------------------- limits


async def test_limits_of_an_account_count_at_once_and_count_what_is_open(
    venue: Venue, gateway: Gateway
) -> None:
    account = (alice := await venue.trader(gateway, "alice")).account
    await rest(alice, "a1", "a2")
    await set_user_field(venue.link, account=account, field="max_open_orders", value="3")
    await eventually_async(
        lambda: gateway._keeper.active[account].limits.max_open_orders == 3,
    )
    await rest(alice, "a3")
    alice.send(limit_order("a4", 1, "1", "100"))
    await alice.expect("8", t150="8", t103="3")
    alice.send("35=F|11=a5|41=a1|55=BTC-USD|54=1|60=now")
    await alice.expect("8", t150="4")
    await rest(alice, "a6")
    alice.send(limit_order("a7", 1, "1", "100"))
    await alice.expect("8", t150="8", t103="3")
    await alice.close()
    await venue.released(account)

    # What is open is counted at logon, too; what was missed meanwhile is not counted twice.
    again = await venue.log_on(gateway, account, "alice", next_out=alice.next_out)
    again.send("35=q|11=a8|530=7|60=now")
    await again.expect("r")
    for _ in range(3):
        await again.expect("8", t150="4")
    await rest(again, "b1", "b2", "b3")
    again.send(limit_order("b4", 1, "1", "100"))
    await again.expect("8", t150="8", t103="3")


# -------------------------------------------------------------------- cancel on disconnect


async def test_orders_of_a_client_that_vanishes_or_logs_out_are_canceled(
    venue: Venue, gateway: Gateway
) -> None:
    account = await venue.add_user("alice", USD=10**9)
    number = 1
    for ending in ("vanishes", "logs out"):
        alice = await venue.log_on(gateway, account, "alice", next_out=number, tail="|8013=Y")
        if number > 1:
            for _ in range(2):
                await alice.expect("8", t150="4", t378="99")
        await rest(alice, f"{ending}-1")
        await rest(alice, f"{ending}-2", symbol="ETH-USD")
        if ending == "logs out":
            alice.send("35=5")
            await alice.expect("5")
        await alice.close()
        number = alice.next_out
        await until_canceled(venue, account)
    assert await disconnected_orders(venue) == 4


async def test_a_client_that_is_back_within_its_grace_keeps_its_orders(
    venue: Venue, gateway: Gateway
) -> None:
    alice = await venue.trader(gateway, "alice")
    account = alice.account
    field = "cancel_on_disconnect_s"
    await set_user_field(venue.link, account=account, field=field, value="3600")
    await alice.close()
    await venue.released(account)
    again = await venue.log_on(gateway, account, "alice", next_out=2)
    await rest(again, "a1")
    await again.close()
    await venue.released(account)
    again = await venue.log_on(gateway, account, "alice", next_out=again.next_out)
    again.send("35=AF|584=s|585=7")
    await again.expect("8", t150="I", t11="a1", t911="1")
    # A wrong password is no sign of life, and none of death either.
    score = await venue.link.call("ZSCORE", keys.DISCONNECTS, account)
    stranger = await venue.connect(gateway)
    stranger.logon(account, "alice", PASSWORD + b"!")
    assert (await stranger.next_message() or {"35": "5"})["35"] == "5"
    assert float(await venue.link.call("ZSCORE", keys.DISCONNECTS, account)) >= float(score)
    assert await open_count(venue, account) == 1


async def test_only_one_of_many_gateways_decides(venue: Venue, gateway: Gateway) -> None:
    async with venue.gateway("gateway-2") as other:
        account = await venue.add_user("alice", USD=10**9)
        alice = await venue.log_on(other, account, "alice", tail="|8013=Y")
        await rest(alice, "a1")
        await alice.close()
        await until_canceled(venue, account)
        gateways = (gateway, other)
        # One of them, which learns of it while the engine cancels already.
        await eventually_async(lambda: any(one.stats()["disconnected"] for one in gateways))
        assert sorted(one.stats()["disconnected"] for one in gateways) == [0, 1]
    assert await disconnected_orders(venue) == 1
