"""A symbol with accounts around it: what admission and settlement do to balances, without Redis.

The tests of matching use it. Every command is reserved for as a gateway does it, applied, and
settled as the scripts do it; after each the money is counted and the invariants are checked.
"""

from __future__ import annotations

from engine.commands import (
    CancelAll,
    CancelOrder,
    Command,
    DefineSymbol,
    MassCancel,
    NewOrder,
    OrderConditions,
    QueryOrder,
    ReplaceOrder,
    SetPhase,
    Tick,
    decode_command,
    encode_command,
)
from engine.enums import (
    CancelReason,
    MassCancelRequestType,
    OrdType,
    PhaseReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.errors import DecodeError
from engine.events import Output, decode_output
from engine.fees import FEE_ACCOUNT
from engine.instrument import SymbolRules, define_rules
from engine.settlement import Settlement, encode_settlement
from engine.shard import Applied, Shard
from gateway.reservations import KnownOrder, reserve_replace, settled_as
from router.open_orders import OpenOrder, parse_open_order

SYMBOL = "COW-EUR"
BASE, QUOTE = "COW", "EUR"
START_BASE, START_QUOTE = 1_000, 1_000_000
UNIT = 10
"""Quote units per tick and lot; one lot is one base unit."""


def rules(
    *,
    version: int = 1,
    maker_ppm: int = 10_000,
    taker_ppm: int = 20_000,
    min_notional: str = "0",
    min_price: str = "1",
    band_ppm: int = 0,
    halts: bool = False,
) -> SymbolRules:
    """Return rules in which a lot at one tick costs 10 units and fees are 1 % and 2 %."""
    return define_rules(
        symbol=SYMBOL,
        base=BASE,
        quote=QUOTE,
        base_scale=0,
        quote_scale=1,
        tick_size="1",
        lot_size="1",
        min_qty="1",
        max_qty="50000",
        max_price="1000",
        min_notional=min_notional,
        maker_fee_ppm=maker_ppm,
        taker_fee_ppm=taker_ppm,
        version=version,
        min_price=min_price,
        price_band_ppm=band_ppm,
        price_band_halts=halts,
    )


class World:
    """One symbol, its shard, and the balances and open orders that settlement keeps.

    Attributes:
        shard: The shard under test.
        rules: In force.
        balances: (account, asset) -> [available, pending, held].
        opens: (account, ClOrdID) -> text, as in `open:{account}`.
        settlements: What was committed, in order.
        commands: What was applied or skipped, in order, encoded.
        stamps: Theirs, µs.
        ts_us: The last of them.
        skips: seq -> reason of what was skipped.
    """

    def __init__(self, symbol_rules: SymbolRules | None = None) -> None:
        self.shard = Shard()
        self.rules = symbol_rules or rules()
        self.balances: dict[tuple[int, str], list[int]] = {}
        self.opens: dict[tuple[int, str], str] = {}
        self.settlements: list[Settlement] = []
        self.commands: list[bytes] = []
        self.stamps: list[int] = []
        self.ts_us = 0
        self.skips: dict[int, str] = {}
        self.best = (0, 0)
        self.apply(DefineSymbol("0123456789abcdef", self.rules))

    def balance(self, account: int, asset: str) -> list[int]:
        """Return available, pending and held; traders start with plenty."""
        found = self.balances.get((account, asset))
        if found is None:
            start = START_QUOTE if asset == QUOTE else START_BASE
            available = start if account != FEE_ACCOUNT else 0
            found = self.balances[account, asset] = [available, 0, 0]
        return found

    def open_order(self, account: int, cl_ord_id: str) -> OpenOrder | None:
        """Return an open order as a gateway reads it."""
        text = self.opens.get((account, cl_ord_id))
        return None if text is None else parse_open_order(text.encode())

    def change_rules(self, new_rules: SymbolRules) -> Output:
        """Append the definition of changed rules."""
        self.rules = new_rules
        return self.apply(DefineSymbol("0123456789abcdef", new_rules))

    def new(
        self,
        account: int,
        cl_ord_id: str,
        side: Side,
        qty_lots: int,
        price_ticks: int,
        *,
        ord_type: OrdType = OrdType.LIMIT,
        time_in_force: TimeInForce = TimeInForce.GTC,
        post_only: bool = False,
        stp: SelfTradePrevention = SelfTradePrevention.CANCEL_NEWEST,
        reserved: int | None = None,
        version: int | None = None,
        conditions: OrderConditions | None = None,
    ) -> Output:
        """Send a new order, with what it must hold reserved unless told otherwise."""
        if reserved is None:
            reserved = self.rules.hold_of(side, price_ticks, qty_lots)
            if conditions is not None and conditions.cash:
                reserved = conditions.cash
        return self.apply(
            NewOrder(
                account=account,
                session=account,
                msg_seq_num=len(self.commands),
                cl_ord_id=cl_ord_id,
                side=side,
                ord_type=ord_type,
                time_in_force=time_in_force,
                post_only=post_only,
                stp=stp,
                price_ticks=price_ticks,
                qty_lots=qty_lots,
                rules_version=self.rules.version if version is None else version,
                reserved=reserved,
                conditions=conditions,
            )
        )

    def cancel(self, account: int, cl_ord_id: str, orig: str, order_seq: int = 0) -> Output:
        """Send a cancel."""
        return self.apply(CancelOrder(account, account, 0, cl_ord_id, orig, order_seq))

    def replacing(
        self,
        account: int,
        cl_ord_id: str,
        orig: str,
        side: Side,
        qty_lots: int,
        price_ticks: int,
        *,
        ord_type: OrdType = OrdType.LIMIT,
        time_in_force: TimeInForce = TimeInForce.GTC,
        post_only: bool = False,
        order_seq: int = 0,
        reserved: int | None = None,
        found: OpenOrder | None = None,
        expected: KnownOrder | None = None,
        version: int | None = None,
        conditions: OrderConditions | None = None,
    ) -> ReplaceOrder:
        """Return a replace with the reservation that a gateway makes for it.

        Args:
            found: What the gateway read of the order, maybe some time ago; default: as it is now.
            expected: What the gateway knows of it where it is on its way; it reads nothing then.
        """
        command = ReplaceOrder(
            account=account,
            session=account,
            msg_seq_num=len(self.commands),
            cl_ord_id=cl_ord_id,
            orig_cl_ord_id=orig,
            order_seq=order_seq,
            side=side,
            ord_type=ord_type,
            time_in_force=time_in_force,
            post_only=post_only,
            price_ticks=price_ticks,
            qty_lots=qty_lots,
            rules_version=self.rules.version if version is None else version,
            reserved=0 if reserved is None else reserved,
            conditions=conditions,
        )
        if reserved is not None:
            return command
        if expected is None:
            found = found or self.open_order(account, orig)
        known = expected if found is None else settled_as(found)
        if known is not None and known.order.side != side:
            known = None
        made = reserve_replace(command, self.rules, known)
        assert isinstance(made, ReplaceOrder), "the order has the side that the replace names"
        return made

    def query(self, account: int, cl_ord_id: str, order_seq: int = 0) -> Output:
        """Send a status request."""
        return self.apply(
            QueryOrder(account, account, 0, cl_ord_id, order_seq, Side.BUY, f"s-{cl_ord_id}")
        )

    def cancel_all(self, account: int, reason: CancelReason = CancelReason.USER_DISABLED) -> Output:
        """Cancel everything of an account."""
        return self.apply(CancelAll(account, reason))

    def mass_cancel(
        self,
        account: int,
        cl_ord_id: str,
        side: Side | None = None,
        request_type: MassCancelRequestType = MassCancelRequestType.SECURITY,
    ) -> Output:
        """Cancel what an account asks for."""
        return self.apply(MassCancel(account, account, 0, cl_ord_id, request_type, side))

    def set_phase(self, phase: TradingPhase) -> Output:
        """Have an operator change the trading phase."""
        return self.apply(SetPhase(phase, PhaseReason.OPERATOR))

    def tick(self, ts_us: int = 0) -> Output:
        """Let the leading engine's Tick come, at a stamp or right after the last input."""
        self.ts_us = max(self.ts_us, ts_us - 1_000)
        return self.apply(Tick())

    def stamp(self) -> int:
        """Return the stamp of the next input: a millisecond after the last, or later."""
        self.ts_us += 1_000
        self.stamps.append(self.ts_us)
        return self.ts_us

    def can_reserve(self, command: Command) -> bool:
        """Return whether admission would let a command in."""
        if not isinstance(command, NewOrder | ReplaceOrder):
            return True
        asset = self.rules.hold_asset(command.side)
        return self.balance(command.account, asset)[0] >= command.reserved

    def apply(self, command: Command) -> Output:
        """Admit, apply and settle a command, and check that all is well.

        Returns:
            The output, decoded from the bytes that would stand in the stream.
        """
        data = self._admit(command)
        seq = len(self.commands)
        return self._commit(self.shard.apply(SYMBOL, seq, self.stamp(), decode_command(data)))

    def skip(self, payload: bytes, reason: str) -> Output:
        """Admit what stands in an entry, if it is a command, pass over it, settle and check.

        Returns:
            The output, decoded from the bytes that would stand in the stream.
        """
        try:
            self._admit(decode_command(payload))
        except DecodeError:
            self.commands.append(payload)
        seq = len(self.commands)
        self.skips[seq] = reason
        return self._commit(self.shard.skip(SYMBOL, seq, self.stamp(), payload, reason))

    def _admit(self, command: Command) -> bytes:
        assert self.can_reserve(command), f"the test has no money for {command}"
        if isinstance(command, NewOrder | ReplaceOrder):
            balance = self.balance(command.account, self.rules.hold_asset(command.side))
            balance[0] -= command.reserved
            balance[1] += command.reserved
        data = encode_command(command)
        self.commands.append(data)
        return data

    def _commit(self, applied: Applied) -> Output:
        self.settlements.append(encode_settlement(applied))
        self._settle(applied)
        self.shard.check_invariants()
        return decode_output(self.settlements[-1].event)

    def _settle(self, applied: Applied) -> None:
        changes = applied.output.changes
        assert [(c.account, c.asset) for c in changes] == sorted(
            {(c.account, c.asset) for c in changes}
        ), "one change per account and asset, sorted"
        for asset in (BASE, QUOTE):
            moved = sum(c.available + c.pending + c.held for c in changes if c.asset == asset)
            assert moved == 0, f"{asset} is conserved"
        for change in changes:
            balance = self.balance(change.account, change.asset)
            for part, amount in enumerate((change.available, change.pending, change.held)):
                balance[part] += amount
                assert balance[part] >= 0, f"no balance is negative: {change} -> {balance}"
        assert not any(pending for _, pending, _ in self.balances.values()), "nothing stays pending"
        for update in applied.opens:
            if update.value is None:
                del self.opens[update.account, update.cl_ord_id]
            else:
                self.opens[update.account, update.cl_ord_id] = update.value
        self.best = (applied.best_bid_ticks, applied.best_ask_ticks)
        self._check_opens()

    def _check_opens(self) -> None:
        # What settlement keeps is what the engine has; held balances are the sums of the holds.
        matcher = self.shard.matcher(SYMBOL)
        book = matcher.book
        expected = {(o.owner, o.cl_ord_id): o.text() for o in matcher.open_orders()}
        assert self.opens == expected, "open orders as settled are those of the engine"
        assert self.best == (book.best_bid() or 0, book.best_ask() or 0), "best prices"
        held: dict[tuple[int, str], int] = {}
        for order in matcher.open_orders():
            key = order.owner, self.rules.hold_asset(order.side)
            held[key] = held.get(key, 0) + order.hold
        for (account, asset), balance in self.balances.items():
            assert balance[2] == held.get((account, asset), 0), "held is the sum of the holds"
