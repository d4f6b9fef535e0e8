"""An operator who deposits while everything is being killed: the same call until it is answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from engine.ledger_entries import Deposited, decode_ledger_entry
from router import keys
from router.dense_ids import last_entry, last_number
from router.errors import OutOfMemory, RedisUnavailable
from router.ledger import deposit
from router.redis_client import RedisLink
from router.venue_cut import read_entries

PAUSE_S = 1.0
RETRY_S = 0.2
AMOUNT_MAX = 1_000
"""Largest deposit, in the asset's smallest unit."""

_PREFIX = "torture:"


class Depositor:
    """Deposits small amounts.

    Args:
        link: accounts database, for nothing else.
        accounts, assets: who gets what.
        seed: decides.

    Attributes:
        made: reference → the deposit that was carried out, as the answer said.
    """

    def __init__(
        self, link: RedisLink, accounts: Sequence[int], assets: Sequence[str], *, seed: str
    ) -> None:
        self._link = link
        self._accounts = list(accounts)
        self._assets = list(assets)
        self._choose = random.Random(seed)
        self._stopping = False
        self.made: dict[str, Deposited] = {}

    async def run(self) -> None:
        """Deposit until `stop`; the one under way is carried out first."""
        choose = self._choose
        while not self._stopping:
            ref = f"{_PREFIX}{len(self.made) + 1}"
            account, asset = choose.choice(self._accounts), choose.choice(self._assets)
            amount = choose.randint(1, AMOUNT_MAX)
            await self._deposit(Deposited(account, asset, amount, ref))
            await asyncio.sleep(PAUSE_S)

    def stop(self) -> None:
        """End `run` after the deposit that is under way."""
        self._stopping = True

    async def check(self) -> list[str]:
        """Return how the ledger differs from what was deposited: nothing when it does not."""
        last = last_number(await self._link.call(*last_entry(keys.LEDGER)))
        found: list[Deposited] = []
        async for bite in read_entries(self._link, keys.LEDGER, 1, last):
            for _, values in bite:
                entry = decode_ledger_entry(values[0])
                if isinstance(entry, Deposited) and entry.ref.startswith(_PREFIX):
                    found.append(entry)
        if found == list(self.made.values()):
            return []
        return [f"deposits: {len(self.made)} were carried out, the ledger has {len(found)}"]

    async def _deposit(self, one: Deposited) -> None:
        while True:
            try:
                await deposit(
                    self._link,
                    account=one.account,
                    asset=one.asset,
                    amount=one.amount,
                    ref=one.ref,
                )
            except (RedisUnavailable, OutOfMemory):
                await asyncio.sleep(RETRY_S)
            else:
                self.made[one.ref] = one
                return
