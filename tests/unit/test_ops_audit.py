"""FIX journals against command journals: what each message must have, and what proves its loss."""

from __future__ import annotations

import msgspec
import pytest

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
    ResentRefusal,
    encode_command,
)
from engine.enums import (
    CxlRejReason,
    CxlRejResponseTo,
    MassCancelRequestType,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.journal import Record
from gateway.fix_message import frame
from gateway.fixlog import INBOUND, OUTBOUND
from ops.audit import CommandIndex, Finding
from ops.audit_fix import AccountAudit
from ops.audit_terms import FixCommand, Grids, difference_of, fields_of
from tests.persistence_events import INCARNATION, SYMBOL, rules

ACCOUNT = 7
G1, G2 = "gateway-1", "gateway-2"
LATE_NS = 10**18
LIMIT = f"55={SYMBOL}|54=1|38=5|40=2|44=1.00"


def message(text: str, number: int) -> bytes:
    """Return a framed message of `35=D|11=x|…`."""
    msg_type, _, rest = text.partition("|")
    body = f"{msg_type}|49=C|56=SHARDEX|34={number}|52=20260101-00:00:00|{rest}"
    return frame(body.rstrip("|").replace("|", "\x01").encode() + b"\x01")


def new_order(number: int, cl_ord_id: str, *, session: int = 1, **changes: object) -> NewOrder:
    """Return the command of ``order(number, cl_ord_id)``."""
    order = NewOrder(
        *(ACCOUNT, session, number, cl_ord_id, Side.BUY, OrdType.LIMIT, TimeInForce.DAY, False),
        *(SelfTradePrevention.CANCEL_NEWEST, 100, 5, 1, 0),
    )
    return msgspec.structs.replace(order, **changes)


class Story:
    """What stands in the journals, told in order; then the audit of it."""

    def __init__(self) -> None:
        self.commands: list[Command] = [DefineSymbol(INCARNATION, rules())]
        self.records: list[tuple[str, Record]] = []
        self._next = 1

    def client(self, text: str, number: int, gateway: str = G1) -> Story:
        """The client sent something that the gateway took; number 0 in the record: ignored."""
        return self._add(gateway, text, number, INBOUND)

    def order(self, cl_ord_id: str, number: int, gateway: str = G1) -> Story:
        """The client sent a limit order."""
        return self.client(f"35=D|11={cl_ord_id}|{LIMIT}", number, gateway)

    def venue(self, text: str, gateway: str = G1) -> Story:
        """The gateway sent something."""
        return self._add(gateway, text, 1, OUTBOUND)

    def logon(self, number: int = 1, *, gateway: str = G1, reset: bool = False) -> Story:
        """A Logon that was accepted."""
        more = "|141=Y" if reset else ""
        return self.client(f"35=A|98=0{more}", number, gateway).venue(f"35=A|98=0{more}", gateway)

    def command(self, *commands: Command) -> Story:
        """Commands in the engine's journal."""
        self.commands += commands
        return self

    def audit(self) -> tuple[AccountAudit, list[Finding]]:
        """Return the account's audit, and all that was found."""
        index = CommandIndex()
        for seq, command in enumerate(self.commands, 1):
            # The engine's last command is younger than every message.
            index.add(Record(SYMBOL, seq, seq, 0, encode_command(command)), part=0, parts=1)
        index.last_ts_ns[SYMBOL] = LATE_NS
        account = AccountAudit(ACCOUNT, index)
        for gateway, record in self.records:
            account.take(gateway, record, is_inbound=record.flags == INBOUND)
        return account, [*index.differences, *account.finish(), *index.unmatched(until_ns=LATE_NS)]

    def kinds(self) -> list[str]:
        """Return the kinds of what was found."""
        return [one.kind for one in self.audit()[1]]

    def counts(self) -> tuple[int, int, int]:
        """Return matched, refused and resent messages, where nothing else was found."""
        account, found = self.audit()
        assert found == []
        return account.matched, account.refused, account.resent

    def _add(self, gateway: str, text: str, number: int, flags: int) -> Story:
        self._next += 1
        record = Record(str(ACCOUNT), number, self._next, flags, message(text, number))
        self.records.append((gateway, record))
        return self


def accepted(cl_ord_id: str) -> str:
    return f"35=8|37={SYMBOL}-9|11={cl_ord_id}|17=x|150=0|39=0"


def refused(cl_ord_id: str) -> str:
    return f"35=8|37=NONE|11={cl_ord_id}|17=x|150=8|39=8"


def test_every_message_has_its_command_and_every_command_its_message() -> None:
    story = Story().logon(1).order("a", 2).client(f"35=F|11=b|41=a|55={SYMBOL}|54=1", 3)
    story.command(new_order(2, "a"), CancelOrder(ACCOUNT, 1, 3, "b", "a", 0), CancelAll(ACCOUNT))
    assert story.counts() == (2, 0, 0)


def test_a_command_without_a_message_is_found() -> None:
    story = Story().logon(1).order("a", 2).command(new_order(2, "a"), new_order(3, "b"))
    [found] = story.audit()[1]
    assert (found.kind, found.msg_seq_num, found.cl_ord_id) == ("no message", 3, "b")
    assert str(found).startswith(f"no message: account 7 MsgSeqNum 3 ClOrdID b {SYMBOL}: ")


def test_two_commands_of_one_message_are_found() -> None:
    story = Story().logon(1).order("a", 2).command(new_order(2, "a"), new_order(2, "a"))
    assert story.kinds() == ["twice"]


def test_a_command_that_says_something_else_is_found_once() -> None:
    story = Story().logon(1).order("a", 2).command(new_order(2, "a", price_ticks=101))
    [found] = story.audit()[1]
    assert (found.kind, found.msg_seq_num) == ("terms", 2)
    assert "Price (44) in ticks: the command has 101, the message 100" in found.text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"35=D|11=a|{LIMIT}", refused("a")),
        (f"35=D|11=a|{LIMIT}", "35=3|45=2|373=5"),
        (f"35=D|11=a|{LIMIT}", "35=j|45=2|372=D|380=4"),
        (f"35=F|11=a|41=x|55={SYMBOL}|54=1", "35=9|37=NONE|11=a|41=x|39=8|434=1|102=1"),
        (f"35=G|11=a|41=x|{LIMIT}", "35=9|37=NONE|11=a|41=x|39=8|434=2|102=1"),
        (f"35=H|11=a|55={SYMBOL}|54=1", "35=j|45=2|372=H|380=2"),
    ],
)
def test_a_refusal_on_record_answers_its_message(text: str, answer: str) -> None:
    assert Story().logon(1).client(text, 2).venue(answer).counts() == (0, 1, 0)
    # By another gateway after a kill, and behind later ones: an outbox is read in order.
    story = Story().logon(1).client(text, 2).logon(3, gateway=G2).venue(answer, G2)
    assert story.counts() == (0, 1, 0)


def test_a_session_reject_may_stand_before_its_message() -> None:
    story = Story().logon(1).venue("35=3|45=2|373=5").order("a", 2)
    assert story.counts() == (0, 1, 0)


def test_a_message_that_nobody_answered_is_listed_only() -> None:
    story = Story().logon(1).order("a", 2)
    [found] = story.audit()[1]
    assert (found.kind, found.text) == (
        "unanswered",
        f"{G1}: neither a command nor an answer is on record",
    )
    [found] = story.order("b", 3).command(new_order(3, "b")).audit()[1]
    assert found.kind == "unanswered"
    assert found.text.endswith("a later number, 3, has a command")


def test_a_message_behind_which_others_were_answered_is_lost() -> None:
    story = Story().logon(1).order("a", 2).order("b", 3).command(new_order(3, "b"))
    [found] = story.venue(accepted("b")).audit()[1]
    assert (found.kind, found.msg_seq_num) == ("no command", 2)


def test_a_message_that_an_engine_accepted_without_a_command_is_lost() -> None:
    assert Story().logon(1).order("a", 2).venue(accepted("a")).kinds() == ["no command"]


@pytest.mark.parametrize(
    "answer",
    [
        f"35=8|37={SYMBOL}-2|11=b|17=x|150=F|39=2",
        "35=j|45=3|372=D|380=4",
        "35=3|45=3|373=5",
    ],
)
def test_what_is_not_sent_in_the_order_of_messages_proves_nothing(answer: str) -> None:
    story = Story().logon(1).order("a", 2).order("b", 3).command(new_order(3, "b")).venue(answer)
    assert story.kinds() == ["unanswered"]


def test_an_answer_on_another_connection_proves_nothing() -> None:
    story = Story().logon(1).order("a", 2).logon(4).order("b", 5).venue(accepted("b"))
    assert story.command(new_order(5, "b")).kinds() == ["unanswered"]


def test_a_message_younger_than_its_symbols_journal_may_be_on_its_way() -> None:
    story = Story().logon(1).order("a", 2).order("b", 3).venue(refused("b"))
    index = CommandIndex()
    account = AccountAudit(ACCOUNT, index)
    for gateway, record in story.records:
        account.take(gateway, record, is_inbound=record.flags == INBOUND)
    assert [one.kind for one in account.finish()] == ["no command"]
    index.last_ts_ns[SYMBOL] = 1
    account = AccountAudit(ACCOUNT, index)
    for gateway, record in story.records:
        account.take(gateway, record, is_inbound=record.flags == INBOUND)
    assert [one.kind for one in account.finish()] == ["unanswered"]


def test_a_resend_that_another_gateway_took_is_the_same_message() -> None:
    before = Story().logon(1).order("a", 2).logon(4, gateway=G2)
    resent = before.client(f"35=D|43=Y|11=a|{LIMIT}", 2, G2)
    # Whichever of the two was admitted, the journals do not tell.
    assert resent.command(new_order(2, "a")).counts() == (2, 0, 0)
    never_admitted = Story().logon(1).order("a", 2).logon(4, gateway=G2)
    assert never_admitted.client("35=4|43=Y|123=Y|36=4", 2, G2).counts() == (0, 0, 1)


def test_a_number_that_the_client_uses_for_something_else_is_taken_again() -> None:
    story = Story().logon(1).order("a", 2).logon(2, gateway=G2)
    assert story.counts() == (0, 0, 1)
    story = Story().logon(1).order("a", 2).logon(3, gateway=G2).order("b", 2, G2)
    assert story.command(new_order(2, "b")).counts() == (1, 0, 1)


def test_a_sequence_reset_gives_up_what_was_before_it() -> None:
    story = Story().logon(1).order("a", 2).order("b", 3).logon(9, gateway=G2)
    assert story.client("35=4|36=9", 9, G2).counts() == (0, 0, 2)


def test_a_sequence_reset_that_was_rejected_is_a_number_like_any_other() -> None:
    story = Story().logon(1).order("a", 2).logon(3, gateway=G2).client("35=4|123=Y|36=x", 2, G2)
    assert story.counts() == (0, 0, 1)


def test_an_ignored_duplicate_needs_nothing() -> None:
    assert Story().logon(1).order("a", 0).counts() == (0, 0, 0)


def test_numbers_begin_anew_at_a_reset() -> None:
    story = Story().logon(1, reset=True).order("a", 2).logon(1, reset=True).order("b", 2)
    story.command(new_order(2, "a"), new_order(2, "b", session=2))
    assert story.counts() == (2, 0, 0)


def test_the_commands_say_which_resets_took_place() -> None:
    # Refused (no answer is recorded under the account), then accepted; then one whose answer was
    # lost with its gateway.
    story = Story().client("35=A|98=0|141=Y", 1).logon(1, reset=True).order("a", 2)
    story.client("35=A|98=0|141=Y", 1, G2).order("b", 2, G2).logon(3, gateway=G1).order("c", 4)
    story.command(new_order(2, "a"), new_order(2, "b", session=2), new_order(4, "c", session=2))
    assert story.counts() == (3, 0, 0)
    story = Story().client("35=A|98=0", 1).logon(1, reset=True).order("a", 2)
    assert story.command(new_order(2, "a", session=2)).counts() == (1, 0, 0)


def test_a_command_of_another_incarnation_is_not_the_messages() -> None:
    story = Story().logon(1).order("a", 2).command(new_order(2, "a", session=2))
    assert sorted(story.kinds()) == ["no message", "unanswered"]


def test_terms_are_read_off_the_message() -> None:
    grids = {1: Grids(rules())}

    def differs(command: Command, text: str) -> str | None:
        assert isinstance(command, FixCommand)
        return difference_of(command, SYMBOL, grids, fields_of(message(text, 2)))

    order = new_order(2, "a")
    assert differs(order, f"35=D|11=a|{LIMIT}") is None
    assert differs(order, f"35=D|11=a|{LIMIT}".replace("44=1.00", "44=1.000")) is None
    market = new_order(2, "a", ord_type=OrdType.MARKET, time_in_force=TimeInForce.IOC)
    assert differs(market, f"35=D|11=a|55={SYMBOL}|54=1|38=5|40=1") is None
    replace = ReplaceOrder(
        *(ACCOUNT, 1, 2, "b", "a", 0, Side.BUY, OrdType.LIMIT, TimeInForce.GTC, True, 100, 5, 1, 0)
    )
    assert differs(replace, f"35=G|11=b|41=a|{LIMIT}|59=1|18=6") is None
    query = QueryOrder(ACCOUNT, 1, 2, "a", 0, Side.SELL, "")
    assert differs(query, f"35=H|11=a|55={SYMBOL}|54=2") is None
    for response_to, kind in (
        (CxlRejResponseTo.CANCEL, "F"),
        (CxlRejResponseTo.REPLACE, "G"),
    ):
        refusal = ResentRefusal(CxlRejReason.OTHER, "no", 0, "a", response_to)
        refused = QueryOrder(ACCOUNT, 1, 2, "b", 0, Side.BUY, "", refusal)
        # A side that no order has is one reason to refuse it.
        assert differs(refused, f"35={kind}|11=b|41=a|55={SYMBOL}|54=5") is None
    for command, text, name in (
        (order, f"35=G|11=a|{LIMIT}", "MsgType (35)"),
        (order, f"35=D|11=x|{LIMIT}", "ClOrdID (11)"),
        (order, f"35=D|11=a|{LIMIT}|59=1", "TimeInForce (59)"),
        (order, f"35=D|11=a|{LIMIT}|18=6", "ExecInst (18)"),
        (order, f"35=D|11=a|{LIMIT}".replace("38=5", "38=6"), "OrderQty (38)"),
        (order, f"35=D|11=a|{LIMIT}".replace("54=1", "54=2"), "Side (54)"),
        (order, f"35=D|11=a|{LIMIT}".replace(SYMBOL, "BETA-USD"), "Symbol (55)"),
        (replace, f"35=G|11=b|41=c|{LIMIT}|59=1|18=6", "OrigClOrdID (41)"),
        (new_order(2, "a", rules_version=9), f"35=D|11=a|{LIMIT}", "version of the rules"),
    ):
        difference = differs(command, text)
        assert difference is not None and difference.startswith(name), (name, difference)


def test_a_mass_cancel_for_all_symbols_is_one_message_with_many_commands() -> None:
    cancel = MassCancel(ACCOUNT, 1, 2, "m", MassCancelRequestType.ALL)
    story = Story().logon().client("35=q|11=m|530=7", 2).command(cancel, cancel)
    assert story.counts() == (1, 0, 0)


def test_a_mass_cancel_is_answered_by_its_report_where_it_has_no_command() -> None:
    story = Story().logon().client("35=q|11=m|530=7", 2)
    assert story.venue("35=r|37=x|11=m|530=7|531=7").counts() == (0, 1, 0)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"stop_ticks": 101}, "StopPx (99)"),
        ({"max_floor_lots": 2}, "MaxFloor (111)"),
        ({"min_qty_lots": 1}, "MinQty (110)"),
        ({"expire_us": 1}, "ExpireTime (126)"),
        ({"cash": 1}, "CashOrderQty (152)"),
    ],
)
@pytest.mark.parametrize("expiry", ["126=20260101-00:00:00", "432=20251231"])
def test_conditions_are_read_off_the_message(
    expiry: str, change: dict[str, int], name: str
) -> None:
    text = f"35=D|11=x|55=ALFA-USD|54=1|38=5|40=2|44=1.00|59=6|{expiry}"
    conditions = OrderConditions(expire_us=1_767_225_600_000_000)
    order = new_order(2, "x", time_in_force=TimeInForce.GTD, conditions=conditions)
    grids, fields = {1: Grids(rules())}, fields_of(message(text, 2))
    assert difference_of(order, SYMBOL, grids, fields) is None
    changed = msgspec.structs.replace(conditions, **change)
    other = msgspec.structs.replace(order, conditions=changed)
    assert (difference_of(other, SYMBOL, grids, fields) or "").startswith(name)
