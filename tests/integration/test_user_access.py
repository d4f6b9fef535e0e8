"""Public keys and allowed addresses of users: in the record, in the ledger, and back from it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.ledger_entries import UserChanged, decode_ledger_entry
from router import keys
from router.errors import LedgerRefused
from router.user_access import (
    ADDRESSES_MAX,
    KEYS_MAX,
    UserAccess,
    read_access,
    set_addresses,
    set_public_keys,
)
from router.users import add_user
from tests.router_helpers import SmallVenue, small_venue

ALICE = 1


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        await add_user(venue.link, username="alice", password_hash="h")
        yield venue


async def test_new_user_has_no_keys_and_may_come_from_everywhere(venue: SmallVenue) -> None:
    access = await read_access(venue.link, ALICE)
    assert access == UserAccess((), ())
    assert access.admits("192.0.2.1") and access.admits("2001:db8::1") and access.admits("")


async def test_changes_stand_in_the_record_and_in_the_ledger(venue: SmallVenue) -> None:
    await set_public_keys(venue.link, account=ALICE, public_keys=["k1", "k2"])
    await set_addresses(venue.link, account=ALICE, addresses=["192.0.2.7", "2001:db8::/32"])
    expected = UserAccess(("k1", "k2"), ("192.0.2.7/32", "2001:db8::/32"))
    assert await read_access(venue.link, ALICE) == expected
    entries = await venue.stream(keys.LEDGER)
    assert [decode_ledger_entry(fields["e"]) for _, fields in entries[1:]] == [
        UserChanged(ALICE, "keys", "k1 k2"),
        UserChanged(ALICE, "addresses", "192.0.2.7/32 2001:db8::/32"),
    ]
    await set_addresses(venue.link, account=ALICE, addresses=[])
    assert (await read_access(venue.link, ALICE)).addresses == ()


@pytest.mark.parametrize("address", ["192.0.2.1/24", "example.org", "192.0.2.0/33", ""])
async def test_what_is_no_network_is_refused(venue: SmallVenue, address: str) -> None:
    with pytest.raises(LedgerRefused, match="expected networks such as"):
        await set_addresses(venue.link, account=ALICE, addresses=[address])


async def test_too_many_and_unknown_users_are_refused(venue: SmallVenue) -> None:
    with pytest.raises(LedgerRefused, match="at most"):
        await set_public_keys(venue.link, account=ALICE, public_keys=["k"] * (KEYS_MAX + 1))
    with pytest.raises(LedgerRefused, match="at most"):
        await set_addresses(venue.link, account=ALICE, addresses=["::1"] * (ADDRESSES_MAX + 1))
    with pytest.raises(LedgerRefused, match="no such user"):
        await set_addresses(venue.link, account=99, addresses=["::1"])
    assert len(await venue.stream(keys.LEDGER)) == 1


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("::ffff:192.0.2.1", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", True),
        ("", False),
    ],
)
def test_addresses_admit_what_is_in_their_networks(address: str, admitted: bool) -> None:
    access = UserAccess((), ("192.0.2.0/24", "2001:db8::/32", "fe80::/64"))
    assert access.admits(address) is admitted
