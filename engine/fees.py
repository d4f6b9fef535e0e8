"""What an order owes in fees, and what it must hold so that it can always pay. Pure.

Both sides pay in the quote asset, to account 0, at whole parts per million fixed when the order is
accepted. An order owes a fee on all it has traded, rounded up once; each fill charges the
difference to what was charged before. So a thousand fills of one lot cost what one large fill does.

A buy holds what is open at its limit, plus the fee on all it will have traded then at the dearer
rate, less what was charged. That always suffices: a fill at or below the limit lowers it by at
least what it costs, because ceil(a + b) <= ceil(a) + ceil(b). A sell holds base and pays from its
proceeds, which no fill's fee exceeds, because the rates are at most 10^6.

Source: design, section 2 (fees).
"""

from __future__ import annotations

from engine.instrument import fee_ceil

FEE_ACCOUNT = 0
"""The account that takes the fees. Nobody trades as it."""


def buy_hold(*, open_notional: int, filled_notional: int, max_ppm: int, charged: int) -> int:
    """Return what a buy must hold, in quote units.

    Args:
        open_notional: Its leaves at its limit price.
        filled_notional: What it has paid for its fills, without fees.
        max_ppm: The larger of its two rates.
        charged: The fees it has paid.
    """
    return open_notional + fee_ceil(max_ppm * (filled_notional + open_notional)) - charged
