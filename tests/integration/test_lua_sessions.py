"""FIX sessions in a real Redis: one owner, numbers that go on, and writes that are fenced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.limits import (
    OUT_NUMBERS_LEASE,
    OUTBOX_KEPT_BEHIND_CURSOR,
    SENT_MESSAGES_KEPT,
    SENT_MESSAGES_KEPT_S,
)
from router import keys
from router.errors import Fenced, OutOfMemory, ServerChanged
from router.redis_client import RedisLink
from router.sessions import Disabled, Opened, RestoredSince, SentMessages, Sessions, Store, Taken
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually_async
from tests.router_helpers import LossyProxy, make_link

ALICE, BOB = 1, 2
LONG_MS = DEADLINE_MS


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


@pytest.fixture
def gateway(link: RedisLink) -> Sessions:
    return Sessions(link, owner="gateway-1", ttl_ms=LONG_MS)


@pytest.fixture
def other(link: RedisLink) -> Sessions:
    return Sessions(link, owner="gateway-2", ttl_ms=LONG_MS)


async def opened(sessions: Sessions, account: int = ALICE, *, reset: bool = False) -> Opened:
    answer = await sessions.logon(account, reset=reset)
    assert isinstance(answer, Opened)
    return answer


async def test_first_logon_begins_at_one(gateway: Sessions) -> None:
    first = await opened(gateway)
    assert first == Opened(first.epoch, 1, 1, 1, OUT_NUMBERS_LEASE, 0)


async def test_session_that_is_served_is_taken_for_everyone(
    gateway: Sessions, other: Sessions
) -> None:
    await opened(gateway)

    for sessions in (gateway, other):
        answer = await sessions.logon(ALICE, reset=True)
        assert isinstance(answer, Taken)
        assert answer.owner == "gateway-1"
        assert 0 < answer.remaining_ms <= LONG_MS


async def test_of_many_logons_at_once_one_gets_the_session(redis_url: str) -> None:
    async def attempt(number: int) -> object:
        async with make_link(redis_url) as link:
            return await Sessions(link, owner=f"g{number}", ttl_ms=LONG_MS).logon(
                ALICE, reset=False
            )

    answers = await asyncio.gather(*(attempt(number) for number in range(10)))

    assert sum(isinstance(answer, Opened) for answer in answers) == 1


async def test_release_lets_numbers_go_on_anywhere(gateway: Sessions, other: Sessions) -> None:
    first = await opened(gateway)
    await gateway.store([Store(ALICE, first.epoch, 1, 3, 17, b"abc")])
    await gateway.release(ALICE, first.epoch, dealt=9, next_out=5)

    second = await opened(other)

    assert second.epoch > first.epoch
    assert second == Opened(second.epoch, 1, 10, 5, 4 + OUT_NUMBERS_LEASE, 17)


async def test_a_store_without_messages_only_moves_the_cursor(
    gateway: Sessions, other: Sessions
) -> None:
    first = await opened(gateway)
    await gateway.store([Store(ALICE, first.epoch, 1, 3, 17, b"abc")])
    assert await gateway.store([Store(ALICE, first.epoch, 4, 3, 19, b"")]) == [True]
    await gateway.release(ALICE, first.epoch, dealt=9, next_out=4)

    assert await sent(gateway, number=1) == [SentMessages(1, 3, b"abc")]
    assert (await opened(other)).cursor == 19


async def test_successor_of_a_dead_gateway_starts_behind_all_leased_numbers(
    link: RedisLink, other: Sessions
) -> None:
    dying = Sessions(link, owner="gateway-1", ttl_ms=1)
    first = await opened(dying)
    limit = await dying.raise_limit(ALICE, first.epoch, out_limit=first.out_limit)

    async def try_logon() -> Opened | None:
        answer = await other.logon(ALICE, reset=False)
        return answer if isinstance(answer, Opened) else None

    answer = await eventually_async(try_logon)

    assert answer is not None
    assert limit == 2 * OUT_NUMBERS_LEASE
    assert (answer.number, answer.next_out) == (1, limit + 1)
    assert answer.out_limit == limit + OUT_NUMBERS_LEASE


async def test_reset_begins_a_new_incarnation_and_keeps_the_cursor(
    gateway: Sessions, other: Sessions
) -> None:
    first = await opened(gateway)
    await gateway.store([Store(ALICE, first.epoch, 1, 1, 4, b"old")])
    await gateway.release(ALICE, first.epoch, dealt=8, next_out=2)

    second = await opened(other, reset=True)
    await other.store([Store(ALICE, second.epoch, 1, 1, 5, b"new")])

    assert second == Opened(second.epoch, 2, 1, 1, OUT_NUMBERS_LEASE, 4)
    assert await sent(other, number=1) == []
    assert await sent(other, number=2) == [SentMessages(1, 1, b"new")]


async def test_disabled_user_gets_no_session(link: RedisLink, gateway: Sessions) -> None:
    await link.call("HSET", keys.user(ALICE), "disabled", "1")

    assert await gateway.logon(ALICE, reset=False) == Disabled()


async def test_after_a_restore_everybody_has_to_begin_anew_once(
    link: RedisLink, gateway: Sessions
) -> None:
    before = await opened(gateway)
    await gateway.release(ALICE, before.epoch, dealt=8, next_out=5)
    await link.call("HSET", keys.user(ALICE), "created_us", "10")
    await link.call("HSET", keys.user(BOB), "created_us", "10")
    await link.call("HSET", keys.user(3), "created_us", "30")
    await link.call("SET", keys.RESTORED, "20")
    daily = Sessions(link, owner="gateway-1", ttl_ms=LONG_MS, daily_reset_s=0)

    for sessions in (gateway, daily):
        assert await sessions.logon(ALICE, reset=False) == RestoredSince()
        # Who logged on for the first time after the backup has no session, but may have reports.
        assert await sessions.logon(BOB, reset=False) == RestoredSince()
    # Who was added later knows nothing of the other life.
    assert (await opened(gateway, 3)).next_in == 1
    anew = await opened(gateway, reset=True)
    assert (anew.number, anew.next_in, anew.next_out) == (before.number + 1, 1, 1)
    await gateway.release(ALICE, anew.epoch, dealt=2, next_out=3)
    assert (await opened(gateway)).next_in == 3

    await link.call("SET", keys.RESTORED, "40")
    assert isinstance(await gateway.logon(3, reset=False), Taken)
    assert await daily.logon(BOB, reset=False) == RestoredSince()


async def test_renewal_names_the_lost_sessions(gateway: Sessions) -> None:
    epochs = {ALICE: (await opened(gateway)).epoch, BOB: 7, 3: (await opened(gateway, 3)).epoch}

    assert await gateway.renew(epochs) == [BOB]
    assert await gateway.renew({}) == []


async def test_everything_under_an_old_epoch_is_fenced(gateway: Sessions, other: Sessions) -> None:
    old = (await opened(gateway)).epoch
    await gateway.release(ALICE, old, dealt=0, next_out=1)
    new = await opened(other)

    with pytest.raises(Fenced):
        await gateway.raise_limit(ALICE, old, out_limit=OUT_NUMBERS_LEASE)
    with pytest.raises(Fenced):
        await gateway.release(ALICE, old, dealt=100, next_out=100)
    assert await gateway.store([Store(ALICE, old, 1, 1, 9, b"x")]) == [False]
    assert await gateway.renew({ALICE: old}) == [ALICE]
    assert await sent(other, number=new.number) == []


async def test_one_call_stores_for_many_and_fences_each_alone(
    link: RedisLink, gateway: Sessions
) -> None:
    alice, bob = await opened(gateway), await opened(gateway, BOB)

    stored = await gateway.store(
        [
            Store(ALICE, alice.epoch, 1, 2, 2, b"a1a2"),
            Store(BOB, bob.epoch + 1, 1, 1, 1, b"b1"),
            Store(ALICE, alice.epoch, 5, 5, 3, b"a5"),
        ]
    )

    assert stored == [True, False, True]
    assert await sent(gateway) == [SentMessages(1, 2, b"a1a2"), SentMessages(5, 5, b"a5")]
    assert await link.call("HGET", keys.session(ALICE), "cursor") == b"3"


async def test_store_after_a_lost_reply_keeps_one_copy(link: RedisLink, redis_url: str) -> None:
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as lossy:
        gateway = Sessions(lossy, owner="gateway-1", ttl_ms=LONG_MS)
        epoch = (await opened(gateway)).epoch
        stores = [Store(ALICE, epoch, 1, 2, 2, b"ab"), Store(ALICE, epoch, 3, 3, 3, b"c")]

        assert await gateway.store(stores) == [True, True]
        assert await gateway.store(stores) == [True, True]
        assert await gateway.raise_limit(ALICE, epoch, out_limit=1_000) == 2_000
        assert await gateway.raise_limit(ALICE, epoch, out_limit=1_000) == 2_000
        assert await sent(gateway) == [SentMessages(1, 2, b"ab"), SentMessages(3, 3, b"c")]


async def test_store_that_comes_after_its_successor_moves_no_cursor_back(
    link: RedisLink, gateway: Sessions
) -> None:
    epoch = (await opened(gateway)).epoch
    first, second = Store(ALICE, epoch, 1, 2, 2, b"ab"), Store(ALICE, epoch, 3, 3, 3, b"c")
    await gateway.store([first])
    await gateway.store([second])

    assert await gateway.store([first]) == [True]

    assert await link.call("HGET", keys.session(ALICE), "cursor") == b"3"


async def test_number_below_what_is_stored_is_a_bug(gateway: Sessions) -> None:
    epoch = (await opened(gateway)).epoch
    await gateway.store([Store(ALICE, epoch, 1, 5, 1, b"x")])

    with pytest.raises(AssertionError, match="numbers only grow"):
        await gateway.store([Store(ALICE, epoch, 2, 3, 1, b"y")])


async def test_resend_range_takes_whole_batches_over_pages(gateway: Sessions) -> None:
    epoch = (await opened(gateway)).epoch
    stores = [Store(ALICE, epoch, n, n + 1, n, str(n).encode()) for n in range(1, 601, 2)]
    await gateway.store(stores)

    everything = await sent(gateway)
    part = await sent(gateway, begin=10, end=13)

    assert [(one.first, one.last) for one in everything] == [(n, n + 1) for n in range(1, 601, 2)]
    assert [(one.first, one.last) for one in part] == [(9, 10), (11, 12), (13, 14)]
    assert await sent(gateway, begin=601) == []


async def test_what_was_sent_goes_long_after_the_session_unless_it_logs_on_again(
    link: RedisLink, gateway: Sessions
) -> None:
    session = await opened(gateway)
    key = keys.sent(ALICE, session.number)
    await gateway.store([Store(ALICE, session.epoch, 1, 1, 0, b"m")])
    assert await link.call("TTL", key) == -1
    await gateway.release(ALICE, session.epoch, dealt=0, next_out=2)
    left_s = await link.call("TTL", key)
    assert SENT_MESSAGES_KEPT_S - DEADLINE_S <= left_s <= SENT_MESSAGES_KEPT_S
    await opened(gateway)
    assert await link.call("TTL", key) == -1


async def test_the_last_messages_are_kept_however_many_stand_in_an_entry(
    gateway: Sessions,
) -> None:
    epoch = (await opened(gateway)).epoch
    batch, count = 250, 2 * SENT_MESSAGES_KEPT // 250
    for n in range(count):
        one = Store(ALICE, epoch, n * batch + 1, (n + 1) * batch, n, b"m" * 4_096)
        assert await gateway.store([one]) == [True]

    left = await sent(gateway)

    assert left[-1].last == count * batch
    assert SENT_MESSAGES_KEPT <= messages_in(left) < 1.4 * SENT_MESSAGES_KEPT


def messages_in(left: list[SentMessages]) -> int:
    return sum(one.last - one.first + 1 for one in left)


async def test_numbers_that_were_not_stored_do_not_push_out_what_was(gateway: Sessions) -> None:
    epoch = (await opened(gateway)).epoch
    step = SENT_MESSAGES_KEPT
    for n in range(20):
        assert await gateway.store([Store(ALICE, epoch, n * step + 1, n * step + 2, n, b"m")])

    left = await sent(gateway)

    assert [one.first for one in left] == [n * step + 1 for n in range(20)]


async def test_single_messages_are_kept_as_many_as_those_in_batches(
    link: RedisLink, gateway: Sessions
) -> None:
    epoch = (await opened(gateway)).epoch
    total = 2 * SENT_MESSAGES_KEPT
    for start in range(1, total, 1_000):
        numbers = range(start, start + 1_000)
        await gateway.store([Store(ALICE, epoch, n, n, n, b"m") for n in numbers])
        # Sent again after a lost reply it is not counted again.
        await gateway.store([Store(ALICE, epoch, numbers[-1], numbers[-1], start, b"m")])

    length = await link.call("XLEN", keys.sent(ALICE, 1))

    assert SENT_MESSAGES_KEPT <= length <= 1.25 * SENT_MESSAGES_KEPT + 200
    assert (await sent(gateway))[-1].last == total


async def test_a_new_incarnation_counts_from_the_beginning(
    link: RedisLink, gateway: Sessions
) -> None:
    epoch = (await opened(gateway)).epoch
    quarter = SENT_MESSAGES_KEPT // 4
    batches = [(n * quarter + 1, (n + 1) * quarter) for n in range(5)]
    await gateway.store([Store(ALICE, epoch, first, last, 0, b"m") for first, last in batches])
    await gateway.release(ALICE, epoch, dealt=0, next_out=5 * quarter + 1)
    session = await opened(gateway, reset=True)
    assert session.number == 2

    await gateway.store([Store(ALICE, session.epoch, 1, 3, 0, b"m")])

    assert await link.call("HMGET", keys.session(ALICE), "stored", "marks") == [b"2 3", b""]
    assert [one.first for one in await sent(gateway, number=2)] == [1]


async def test_outbox_is_trimmed_far_behind_the_cursor_only(
    link: RedisLink, gateway: Sessions
) -> None:
    epoch = (await opened(gateway)).epoch
    count = OUTBOX_KEPT_BEHIND_CURSOR + 500
    await link.pipeline(
        [("XADD", keys.outbox(ALICE), f"{n}-0", "e", b"x") for n in range(1, count + 1)]
    )

    await gateway.store([Store(ALICE, epoch, 1, 1, count, b"m")])

    left = await link.call("XRANGE", keys.outbox(ALICE), "-", "+")
    assert OUTBOX_KEPT_BEHIND_CURSOR <= len(left) < count
    assert left[-1][0] == f"{count}-0".encode()


async def test_out_of_memory_stores_nothing(link: RedisLink, gateway: Sessions) -> None:
    epoch = (await opened(gateway)).epoch
    await link.call("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(OutOfMemory):
            await gateway.store([Store(ALICE, epoch, 1, 1, 1, b"x")])
    finally:
        await link.call("CONFIG", "SET", "maxmemory", 0)
    assert await sent(gateway) == []


async def sent(
    sessions: Sessions, *, number: int = 1, begin: int = 1, end: int = 0
) -> list[SentMessages]:
    return [one async for one in sessions.sent_between(ALICE, number, begin=begin, end=end)]


async def test_no_epoch_comes_twice_though_a_server_has_lost_the_last_ones(
    gateway: Sessions, other: Sessions, link: RedisLink
) -> None:
    lost = await opened(gateway)
    await link.call("DEL", keys.session(ALICE))

    successor = await opened(other)

    assert successor.epoch > lost.epoch
    assert await gateway.store([Store(ALICE, lost.epoch, 1, 1, 1, b"x")]) == [False]


async def test_a_limit_that_was_lost_does_not_fall_below_the_caller_s(
    gateway: Sessions, link: RedisLink
) -> None:
    epoch = (await opened(gateway)).epoch
    await link.call("HSET", keys.session(ALICE), "out_limit", 1_000)
    assert await gateway.raise_limit(ALICE, epoch, out_limit=3_000) == 4_000
    assert await gateway.raise_limit(ALICE, epoch, out_limit=3_000) == 4_000


async def test_messages_made_from_another_server_s_outbox_are_not_stored(
    gateway: Sessions, link: RedisLink
) -> None:
    epoch = (await opened(gateway)).epoch
    stores = [Store(ALICE, epoch, 1, 1, 1, b"x")]
    with pytest.raises(ServerChanged):
        await gateway.store(stores, server="another")
    assert await gateway.read([ALICE, BOB]) == {ALICE: (epoch, 0), BOB: (0, 0)}

    await link.call("PING")
    assert await gateway.store(stores, server=link.run_id) == [True]
    assert await gateway.read([ALICE]) == {ALICE: (epoch, 1)}
