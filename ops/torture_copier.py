"""A drop-copy client: it gets a copy of what some traders are told, and remembers all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gateway.fix_message import FixMessage
from gateway.fix_tags import EXECUTION_REPORT, ORDER_CANCEL_REJECT
from ops.endpoints import Credentials
from ops.torture_client import Client
from ops.torture_record import Complaints, Reports
from ops.torture_trader import Trader

_TAG_ACCOUNT = b"1"


class Copier(Client):
    """One of them; how it lives: ``Client``.

    Args:
        user: who logs on.
        target: TargetCompID.
        originals: whose reports it gets.
        seed, ports, gateway: see ``Client``.

    Attributes:
        copies: account → what it was told about it.
    """

    def __init__(
        self,
        user: Credentials,
        target: str,
        originals: Sequence[Trader],
        *,
        seed: str,
        ports: Callable[[], list[int]],
        gateway: int,
    ) -> None:
        super().__init__(
            user, target, Complaints(), seed=seed, ports=ports, gateway=gateway, roams=True
        )
        self.copies = {one.account: Reports() for one in originals}
        self._originals = list(originals)

    @property
    def copied(self) -> int:
        """Return how many reports it has got."""
        return sum(len(one.digests) for one in self.copies.values())

    def hear(self, message: FixMessage) -> None:
        """Take note of a copy: once, and with the account that it is about."""
        fields = message.fields
        copies = self.copies.get(int(fields.get(_TAG_ACCOUNT, b"0")))
        if copies is None or message.msg_type not in (EXECUTION_REPORT, ORDER_CANCEL_REJECT):
            self.complaints.complain(f"no copy: {message.raw!r}")
        elif not copies.note(fields):
            self.complaints.complain(f"again: {message.raw!r}")

    def differences(self) -> Iterator[str]:
        """Yield how the copies differ from what the traders were told themselves."""
        for trader in self._originals:
            told, copied = trader.record.reports.digests, self.copies[trader.account].digests
            if told == copied:
                continue
            for name in told.keys() | copied.keys():
                if name not in copied:
                    yield f"{trader.account} was told {name}, and it was not copied"
                elif name not in told:
                    yield f"{trader.account} was not told {name}, and it was copied"
                elif told[name] != copied[name]:
                    yield f"{trader.account} was told {name} with other words, or in another order"

    def unheard(self) -> set[str]:
        """Return ExecIDs that came over abandoned lines, but never over the session after all."""
        heard = self.heard_on_dead_lines()
        return heard.difference(*(one.digests for one in self.copies.values()))
