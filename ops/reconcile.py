"""What must hold in a venue at one moment, on plain values. Pure.

Theory. Admission reserves and appends a command in one step, settlement moves money and `settled`
in one step. So at any moment, whatever is under way, for each account and asset:

- available + pending = deposits - withdrawals + what the inputs up to `settled` brought;
- held = what those inputs hold = the sum over the account's open orders;
- pending = what the commands behind `settled` reserve, 0 at rest;
- and over all accounts the three add up to deposits - withdrawals.

What inputs bring is told by ``reconcile_replay.py``. In PostgreSQL "available" contains what is
pending, and its positions are its own.

Each `check_…` adds what it finds to a `Differences`; finding nothing adds nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping

import msgspec

from engine.commands import NewOrder, ReplaceOrder, decode_command
from engine.errors import DecodeError
from engine.instrument import SymbolRules
from engine.ledger_entries import Deposited, Withdrawn, decode_ledger_entry

DIFFERENCES_MAX = 1_000
"""Differences kept of one check; more are counted. A damaged stream would give one per entry."""

Owner = tuple[int, str]
"""Account and asset."""

Amounts = tuple[int, int, int]
"""Available, pending and held, in the asset's smallest unit."""

Opens = Mapping[int, Mapping[str, str]]
"""Account → field → text of its open orders, as ``open:{account}`` has them."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not as it must be: which check found it, where, and what."""

    check: str
    where: str
    text: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.check}: {self.where}: {self.text}"


class Differences:
    """Collects what checks find, at most DIFFERENCES_MAX of each."""

    def __init__(self) -> None:
        self._found: list[Difference] = []
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, check: str, where: str, text: str) -> None:
        """Add one."""
        self._counts[check] += 1
        if self._counts[check] <= DIFFERENCES_MAX:
            self._found.append(Difference(check, where, text))

    def all(self) -> list[Difference]:
        """Return them in the order they were found; what was not kept is one more at the end."""
        more = [
            Difference(check, "further", f"{count - DIFFERENCES_MAX:,} differences are not shown")
            for check, count in self._counts.items()
            if count > DIFFERENCES_MAX
        ]
        return self._found + more


def add_transfers(sums: dict[Owner, int], entries: Iterable[bytes]) -> None:
    """Add the deposits and withdrawals of encoded ledger entries to sums by account and asset.

    Raises:
        DecodeError: bytes are no ledger entry.
    """
    for data in entries:
        entry = decode_ledger_entry(data)
        if isinstance(entry, Deposited | Withdrawn):
            amount = entry.amount if isinstance(entry, Deposited) else -entry.amount
            name = entry.account, entry.asset
            sums[name] = sums.get(name, 0) + amount


def add_reserved(
    sums: dict[Owner, int],
    rules: SymbolRules,
    commands: Iterable[tuple[int, bytes]],
    skips: Container[int],
) -> None:
    """Add what encoded commands reserve to sums by account and asset.

    Args:
        commands: seq and bytes of each.
        skips: the seqs that are to be passed over: they need not be commands.

    Raises:
        DecodeError: bytes are no command.
    """
    for seq, data in commands:
        try:
            command = decode_command(data)
        except DecodeError:
            if seq not in skips:
                raise
            continue
        if isinstance(command, NewOrder | ReplaceOrder) and command.reserved:
            name = command.account, rules.hold_asset(command.side)
            sums[name] = sums.get(name, 0) + command.reserved


def expected_balances(
    owned: Mapping[Owner, list[int]], transfers: Mapping[Owner, int]
) -> dict[Owner, tuple[int, int]]:
    """Return available (with what is pending) and held: transfers, and what inputs brought."""
    expected = {name: (available, held) for name, (available, held) in owned.items()}
    for name, amount in transfers.items():
        available, held = expected.get(name, (0, 0))
        expected[name] = available + amount, held
    return expected


def check_money(
    found: Differences, balances: Mapping[Owner, Amounts], totals: Mapping[str, int]
) -> None:
    """Conservation: all accounts, the fees' too, own what came in; and nobody owes."""
    sums: dict[str, int] = defaultdict(int)
    for (account, asset), amounts in balances.items():
        sums[asset] += sum(amounts)
        if min(amounts) < 0:
            found.add("negative", _owner(account, asset), _amounts(amounts))
    for asset in sorted({*sums, *totals}):
        owned, total = sums.get(asset, 0), totals.get(asset, 0)
        if owned != total:
            found.add("money", asset, f"accounts own {owned}, deposits - withdrawals are {total}")


def check_totals(
    found: Differences, transfers: Mapping[Owner, int], totals: Mapping[str, int]
) -> None:
    """The totals are those of the ledger's entries."""
    sums: dict[str, int] = defaultdict(int)
    for (_, asset), amount in transfers.items():
        sums[asset] += amount
    for asset in sorted({*sums, *totals}):
        if sums.get(asset, 0) != totals.get(asset, 0):
            found.add(
                "totals", asset, f"is {totals.get(asset, 0)}, the ledger says {sums.get(asset, 0)}"
            )


def check_held(
    found: Differences, balances: Mapping[Owner, Amounts], holds: Mapping[Owner, int]
) -> None:
    """What an account has held is what its open orders hold."""
    for account, asset in sorted({*balances, *holds}):
        held = balances.get((account, asset), (0, 0, 0))[2]
        expected = holds.get((account, asset), 0)
        if held != expected:
            found.add("held", _owner(account, asset), f"is {held}, open orders hold {expected}")


def check_pending(
    found: Differences, balances: Mapping[Owner, Amounts], reserved: Mapping[Owner, int]
) -> None:
    """What is pending is what the commands that are not settled yet reserve."""
    for account, asset in sorted({*balances, *reserved}):
        pending = balances.get((account, asset), (0, 0, 0))[1]
        expected = reserved.get((account, asset), 0)
        if pending != expected:
            text = f"is {pending}, unsettled commands reserve {expected}"
            found.add("pending", _owner(account, asset), text)


def check_dense(
    found: Differences, stream: str, *, first: int, last: int, length: int, begins_by: int | None
) -> None:
    """A stream has an entry for each number from its first to its last.

    Args:
        first, last, length: numbers of its first and last entry, and how many it has.
        begins_by: what is trimmed from it lies before this number; None: not known.
    """
    if begins_by is not None and length and first > begins_by:
        found.add("dense", stream, f"begins at {first}, must begin at {begins_by} at the latest")
    if length and last - first + 1 != length:
        found.add("dense", stream, f"has {length} entries from {first} to {last}")


def check_ends(
    found: Differences, symbol: str, *, admitted: int, settled: int, published: int
) -> None:
    """Nothing is settled that was not admitted, nor published that was not settled."""
    if settled > admitted:
        text = f"settled up to {settled}, its orders end at {admitted}"
        found.add("positions", symbol, text)
    if published > settled:
        text = f"published up to {published}, settled up to {settled}"
        found.add("positions", symbol, text)


def check_balances(
    found: Differences,
    balances: Mapping[Owner, Amounts],
    expected: Mapping[Owner, tuple[object, object]],
    by: str = "its streams",
) -> None:
    """Each balance in Redis is what was deposited and what the inputs made of it.

    Args:
        by: what says so.
    """
    for account, asset in sorted({*balances, *expected}):
        available, pending, held = balances.get((account, asset), (0, 0, 0))
        wanted = expected.get((account, asset), (0, 0))
        if (available + pending, held) != wanted:
            text = (
                f"{_amounts((available, pending, held))}; by {by} available + pending"
                f" {wanted[0]}, held {wanted[1]}"
            )
            found.add("balance", _owner(account, asset), text)


def check_stored_balances(
    found: Differences,
    stored: Mapping[Owner, tuple[object, object]],
    expected: Mapping[Owner, tuple[int, int]],
) -> None:
    """Each balance in PostgreSQL is what the streams say up to its positions."""
    for account, asset in sorted({*stored, *expected}):
        amounts = stored.get((account, asset), (0, 0))
        wanted = expected.get((account, asset), (0, 0))
        if amounts != wanted:
            text = (
                f"available {amounts[0]}, held {amounts[1]}; by its streams available {wanted[0]},"
                f" held {wanted[1]}"
            )
            found.add("postgres balance", _owner(account, asset), text)


def check_opens(
    found: Differences, check: str, opens: Opens, expected: Opens, by: str = "the book"
) -> None:
    """Open orders are those of the rebuilt books, in every number.

    Args:
        check: the name of this check: whose open orders they are.
        by: what has those that they must be.
    """
    for account in sorted({*opens, *expected}):
        mine, wanted = opens.get(account, {}), expected.get(account, {})
        for name in sorted({*mine, *wanted}):
            if mine.get(name) != wanted.get(name):
                text = f"is {mine.get(name, 'not there')}, in {by} {wanted.get(name, 'nothing')}"
                found.add(check, f"account {account} {name}", text)


def without_holds(opens: Opens) -> dict[int, dict[str, str]]:
    """Return open orders as PostgreSQL has them: the hold, and what follows it, is not stored."""
    return {
        account: {name: " ".join(text.split(" ", 5)[:5]) for name, text in of.items()}
        for account, of in opens.items()
    }


def _owner(account: int, asset: str) -> str:
    return f"account {account} {asset}"


def _amounts(amounts: Amounts) -> str:
    return "available {}, pending {}, held {}".format(*amounts)
