"""What is still under way in a torture that should come to rest; nothing: an empty list."""

from __future__ import annotations

from collections.abc import Sequence

from engine.enums import TradingPhase
from ops.progress import ProgressReader
from ops.torture_cast import Cast
from ops.torture_client import Client
from ops.torture_trader import Trader
from router import keys
from router.dense_ids import last_entry, last_number
from router.errors import RedisUnavailable
from router.redis_client import RedisLink


def not_logged_on(clients: Sequence[Client]) -> list[str]:
    """Return who is not logged on."""
    return [
        f"client {one.account} ({one.refused or 'no answer yet'})"
        for one in clients
        if not one.is_active
    ]


async def not_canceled(link: RedisLink, traders: Sequence[Trader]) -> list[str]:
    """Return whose orders have not been canceled yet, of those who have logged out for that."""
    waiting = [f"client {one.account} is logged on" for one in traders if one.is_active]
    try:
        for one in traders:
            if await link.call("ZSCORE", keys.DISCONNECTS, one.account) is not None:
                waiting.append(f"client {one.account} has orders that are to be canceled")
    except RedisUnavailable as error:
        return [f"Redis: {error}"]
    return waiting


async def not_at_rest(link: RedisLink, reader: ProgressReader, cast: Cast) -> list[str]:
    """Return what is still under way."""
    waiting = not_logged_on(cast.clients) + not_told(cast)
    waiting += [
        f"client {one.account} has {one.record.expiring} orders that are to expire"
        for one in cast.traders
        if one.record.expiring
    ]
    waiting += [
        f"client {one.account} was told last that {symbol} is {phase}"
        for one in cast.watchers
        for symbol in cast.phases.made
        if (phase := one.phases.get(symbol)) != TradingPhase.CONTINUOUS.name
    ]
    try:
        lags = (await reader.read()).lags()
        for client in (*cast.traders, cast.copier):
            cursor = int(await link.call("HGET", keys.session(client.account), "cursor") or 0)
            end = last_number(await link.call(*last_entry(keys.outbox(client.account))))
            if cursor != end:
                waiting.append(f"client {client.account} was told {cursor} of {end} reports")
    except RedisUnavailable as error:
        return [f"Redis: {error}"]
    return waiting + [f"{name} is {lag} entries behind" for name, lag in lags.items() if lag]


def not_left(clients: Sequence[Client]) -> list[str]:
    """Return who has not logged out for good."""
    return [
        f"client {one.account} ({one.initiator.reason or 'is logged on'})"
        for one in clients
        if not one.has_left
    ]


def not_told(cast: Cast) -> list[str]:
    """Return who waits for answers, or for messages that it wants again."""
    waiting = [
        f"client {one.account} has {len(one.record.unanswered)} messages without an answer"
        for one in cast.traders
        if one.record.unanswered
    ]
    return waiting + [
        f"client {one.account} waits for {one.asked} messages that it asked for again"
        for one in cast.clients
        if one.asked
    ]
