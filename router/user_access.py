"""How a user may log on: public keys for signed Logons, and addresses that may be logged on from.

Both are fields of the user's record, and of the ledger, as passwords are: the ledger rebuilds them.
A change counts from the next Logon on; a session that is logged on stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

from router import keys
from router.errors import LedgerRefused
from router.redis_client import RedisLink
from router.scripts import Script
from router.user_fields import set_user_field

KEYS_MAX = 8
"""Public keys of a user: enough to hand over from one to the next on several machines."""

ADDRESSES_MAX = 64
"""Networks of a user."""

_SIGNED = Script("session_signed")
_KEYS = "keys"
_ADDRESSES = "addresses"

Network = IPv4Network | IPv6Network


class UserAccess(msgspec.Struct, frozen=True):
    """How a user may log on.

    Attributes:
        public_keys: Ed25519 keys in base64, without repetition.
        addresses: networks in CIDR notation; none: from everywhere.
    """

    public_keys: tuple[str, ...]
    addresses: tuple[str, ...]

    def admits(self, address: str) -> bool:
        """Tell whether a network address may log on; an empty one (no IP) only where all may."""
        if not self.addresses:
            return True
        if not address:
            return False
        found = ip_address(address.partition("%")[0])
        # A socket that takes both families shows IPv4 peers as ::ffff:a.b.c.d.
        mapped = getattr(found, "ipv4_mapped", None) or found
        return any(mapped in ip_network(network) for network in self.addresses)


async def read_access(link: RedisLink, account: int) -> UserAccess:
    """Return how a user may log on; of an account that is none: no keys, every address.

    Raises:
        RedisUnavailable: no reply.
    """
    public_keys, addresses = await link.call("HMGET", keys.user(account), _KEYS, _ADDRESSES)
    return UserAccess(_split(public_keys), _split(addresses))


async def set_public_keys(link: RedisLink, *, account: int, public_keys: Sequence[str]) -> None:
    """Replace a user's public keys.

    Args:
        link: accounts database.
        public_keys: in base64, checked by the caller.

    Raises:
        LedgerRefused: there is no such user, or they are too many.
        RedisUnavailable: no reply, or not cleared: make the same call again.
    """
    if len(public_keys) > KEYS_MAX:
        raise LedgerRefused(f"account {account}: expected at most {KEYS_MAX} public keys")
    await set_user_field(link, account=account, field=_KEYS, value=" ".join(public_keys))


async def set_addresses(link: RedisLink, *, account: int, addresses: Sequence[str]) -> None:
    """Replace the networks that a user may log on from; none: everywhere.

    Args:
        link: accounts database.
        addresses: in CIDR notation; a single address is a network too.

    Raises:
        LedgerRefused: there is no such user, one is no network, or they are too many.
        RedisUnavailable: no reply, or not cleared: make the same call again.
    """
    if len(addresses) > ADDRESSES_MAX:
        raise LedgerRefused(f"account {account}: expected at most {ADDRESSES_MAX} networks")
    try:
        networks: list[Network] = [ip_network(address) for address in addresses]
    except ValueError as error:
        raise LedgerRefused(f"expected networks such as 192.0.2.0/24: {error}") from None
    value = " ".join(str(network) for network in networks)
    await set_user_field(link, account=account, field=_ADDRESSES, value=value)


async def take_signed_logon(link: RedisLink, account: int, *, sending_time_us: int) -> bool:
    """Tell whether a signed Logon is newer than every one before it, and remember it if it is.

    Args:
        link: accounts database.
        account: whose signature has been verified.
        sending_time_us: SendingTime (52), µs since 1970.

    Raises:
        RedisUnavailable: no reply; the same Logon may count as seen.
    """
    reply = await _SIGNED.run(link, account, sending_time_us)
    return bool(reply[0] == b"OK")


def _split(value: bytes | None) -> tuple[str, ...]:
    return tuple((value or b"").decode().split())
