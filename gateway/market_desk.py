"""MarketDesk: who is subscribed to what market data, and what each is sent when.

A request is answered at once where that needs no book; everything else goes out in rounds, every
``market_data_interval_ms``: a round brings each subscription up to date by what
``gateway/market_book.py`` makes of its mark, with one write per connection. A connection that does
not keep up, or has too few numbers, is skipped, and conflated by that.

Trading phases are told in the same way: a subscription remembers the status that it was sent.

Nothing here waits for anything. Messages are not stored: a resend fills their places.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from engine.enums import BusinessRejectReason
from gateway.connection import Connection
from gateway.fix_tags import (
    MARKET_DATA_REQUEST,
    MARKET_DATA_REQUEST_REJECT,
    SECURITY_LIST,
    SECURITY_LIST_REQUEST,
    SECURITY_STATUS,
    SECURITY_STATUS_REQUEST,
    TAG_SYMBOL,
    TRADING_SESSION_STATUS,
    TRADING_SESSION_STATUS_REQUEST,
)
from gateway.market_book import NEVER, UNKNOWN, MarketBook
from gateway.market_refusals import business_refusal, rate_refusal, symbols_asked_for
from gateway.market_requests import (
    BANDWIDTH,
    DUPLICATE_REQ_ID,
    REQ_ID_LENGTH_MAX,
    SNAPSHOT,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MarketRefusal,
    market_refusal_body,
    read_market_request,
)
from gateway.market_subscriptions import (
    ROUND_BYTES_MAX,
    Client,
    Message,
    StatusSubscription,
    Subscription,
)
from gateway.refusals import readable
from gateway.security_texts import (
    INVALID,
    NONE_FOUND,
    no_securities_body,
    security_list_bodies,
    status_body,
    unknown_security_body,
    unknown_session_body,
)
from gateway.session_events import AppMessage
from gateway.symbol_texts import SymbolTable
from router.market_state import PhaseStatus

ANSWERS_MAX: Final = 1_000
"""Answers that wait for sequence numbers; whoever asks for more is logged out."""

_ONE_BY_SYMBOL, _ALL = b"0", b"4"
"""SecurityListRequestType (559)."""


class MarketDesk:
    """See the head of this file.

    Args:
        symbols: rules and texts of every symbol.
        subscriptions_max: symbols that a session may be subscribed to, in all requests.
        now_ns: the clock.
        on_numbers: told that a connection needs ``numbers_wanted`` MsgSeqNums.
        on_wanted: told that a symbol's book is wanted; harmless where it is there.

    Attributes:
        books: by symbol, of those that are followed and known.
        messages: sent so far.
    """

    def __init__(
        self,
        symbols: SymbolTable,
        *,
        subscriptions_max: int,
        now_ns: Callable[[], int],
        on_numbers: Callable[[Connection], None],
        on_wanted: Callable[[str], None],
    ) -> None:
        self._symbols = symbols
        self._subscriptions_max = subscriptions_max
        self._now_ns = now_ns
        self._on_numbers = on_numbers
        self._on_wanted = on_wanted
        self._clients: dict[Connection, Client] = {}
        self._phases: dict[str, PhaseStatus] = {}
        self._handlers = {
            MARKET_DATA_REQUEST: self._on_market_request,
            SECURITY_LIST_REQUEST: self._on_list_request,
            SECURITY_STATUS_REQUEST: self._on_status_request,
            TRADING_SESSION_STATUS_REQUEST: self._on_session_request,
        }
        self.books: dict[str, MarketBook] = {}
        self.messages = 0

    # ------------------------------------------------------------ what others tell

    def handle(self, connection: Connection, event: AppMessage) -> None:
        """Answer a request whose turn has come, or take the subscription that it asks for."""
        if not connection.session.can_send:
            return
        client = self._client(connection)
        count = symbols_asked_for(event.message, symbols=len(self._symbols.by_tag))
        too_fast = connection.problem_of_rate(count, self._now_ns()) if count else ""
        if too_fast:
            response_id = _response_id(client, event)
            client.answers.append(rate_refusal(event, connection.account, response_id, too_fast))
        else:
            self._handlers[event.message.msg_type](client, event)
        if not self._send_answers(client) and len(client.answers) > ANSWERS_MAX:
            connection.session.logout("Too many requests", now_ns=self._now_ns())
        connection.settle()

    def forget(self, connection: Connection) -> None:
        """End all subscriptions of a connection."""
        self._clients.pop(connection, None)

    def take_book(self, book: MarketBook) -> None:
        """Take a symbol's book, new or made anew; every subscription of it begins again."""
        self.books[book.symbol] = book
        for client in self._clients.values():
            for subscriptions in client.markets.values():
                for one in subscriptions:
                    if one.symbol == book.symbol and one.told != NEVER:
                        one.mark, one.told = None, UNKNOWN

    def drop_book(self, symbol: str) -> None:
        """Forget the book of a symbol that is not followed any more."""
        self.books.pop(symbol, None)

    def take_phase(self, status: PhaseStatus) -> None:
        """Take a symbol's trading phase; one that is known, or older, changes nothing."""
        known = self._phases.get(status.symbol)
        if known is None or known.changed_seq < status.changed_seq:
            self._phases[status.symbol] = status

    def reset_phase(self, status: PhaseStatus) -> None:
        """Take a symbol's trading phase as it stands, whatever was known."""
        known = self._phases.get(status.symbol)
        if known is None or known.changed_seq != status.changed_seq:
            self._phases[status.symbol] = status

    def phase_seq(self, symbol: str) -> int | None:
        """Return the input that changed a symbol's phase last; None where that is not known."""
        known = self._phases.get(symbol)
        return None if known is None else known.changed_seq

    @property
    def phases_known(self) -> int:
        """Return of how many symbols the trading phase is known."""
        return len(self._phases)

    @property
    def subscriptions(self) -> int:
        """Return how many there are."""
        return sum(client.count() for client in self._clients.values())

    def wanted(self) -> set[str]:
        """Return the symbols whose books somebody wants."""
        return {
            one.symbol
            for client in self._clients.values()
            for subscriptions in client.markets.values()
            for one in subscriptions
        }

    def clients(self) -> list[Client]:
        """Return everybody who may have to be sent something in this round."""
        return list(self._clients.values())

    # ------------------------------------------------------------ requests

    def _client(self, connection: Connection) -> Client:
        client = self._clients.get(connection)
        if client is None or client.number != connection.number:
            client = self._clients[connection] = Client(connection)
        return client

    def _on_market_request(self, client: Client, event: AppMessage) -> None:
        request = read_market_request(event.message, self._symbols)
        if isinstance(request, MarketRefusal):
            self._refuse(client, request)
            return
        req_id = request.req_id
        if request.action == UNSUBSCRIBE:
            if client.markets.pop(req_id, None) is None:
                text = "MDReqID (262): there is no such subscription"
                self._refuse(client, MarketRefusal(req_id, None, text))
            return
        if req_id in client.markets:
            text = "MDReqID (262): there is such a subscription already"
            self._refuse(client, MarketRefusal(req_id, DUPLICATE_REQ_ID, text))
        elif client.count() + len(request.symbols) > self._subscriptions_max:
            self._refuse(client, MarketRefusal(req_id, BANDWIDTH, self._too_many()))
        else:
            once = request.action == SNAPSHOT
            client.markets[req_id] = deque(
                Subscription(req_id, symbol, request.kind, once=once) for symbol in request.symbols
            )
            for symbol in request.symbols:
                self._on_wanted(symbol)

    def _refuse(self, client: Client, refusal: MarketRefusal) -> None:
        client.answers.append((MARKET_DATA_REQUEST_REJECT, market_refusal_body(refusal)))

    def _too_many(self) -> str:
        return f"A session may be subscribed to {self._subscriptions_max} symbols"

    def _on_list_request(self, client: Client, event: AppMessage) -> None:
        fields = event.message.fields
        req_id, kind = fields[b"320"], fields[b"559"]
        response_id = _response_id(client, event)
        symbols = list(self._symbols.by_tag.values())
        if kind == _ONE_BY_SYMBOL:
            symbols = [texts for texts in symbols if texts.name == fields.get(TAG_SYMBOL)]
        if kind not in (_ONE_BY_SYMBOL, _ALL) or fields.get(b"263", SNAPSHOT) != SNAPSHOT:
            bodies = [no_securities_body(req_id, response_id, INVALID)]
        elif not symbols:
            bodies = [no_securities_body(req_id, response_id, NONE_FOUND)]
        else:
            bodies = security_list_bodies(req_id, response_id, symbols, self._phases)
        client.answers.extend((SECURITY_LIST, body) for body in bodies)

    def _on_status_request(self, client: Client, event: AppMessage) -> None:
        fields = event.message.fields
        req_id, name = fields[b"324"], fields[TAG_SYMBOL]
        texts = self._symbols.by_tag.get(name)
        if texts is None and fields[b"263"] != UNSUBSCRIBE:
            body = unknown_security_body(req_id, name)
            client.answers.append((SECURITY_STATUS, body))
        else:
            symbols = [] if texts is None else [texts.rules.symbol]
            self._subscribe_status(client, event, SECURITY_STATUS, req_id, symbols)

    def _on_session_request(self, client: Client, event: AppMessage) -> None:
        fields = event.message.fields
        req_id, session = fields[b"335"], fields.get(b"336")
        names = self._symbols.by_tag if session is None else [session]
        symbols = [
            self._symbols.by_tag[name].rules.symbol
            for name in names
            if name in self._symbols.by_tag
        ]
        if not symbols and session is not None and fields[b"263"] != UNSUBSCRIBE:
            body = unknown_session_body(req_id, readable(session).encode())
            client.answers.append((TRADING_SESSION_STATUS, body))
        else:
            self._subscribe_status(client, event, TRADING_SESSION_STATUS, req_id, symbols)

    def _subscribe_status(
        self,
        client: Client,
        event: AppMessage,
        msg_type: bytes,
        req_id: bytes,
        symbols: list[str],
    ) -> None:
        """Answer with the phases of symbols, and keep on telling them where that is asked for."""
        action, key = event.message.fields[b"263"], (msg_type, req_id)
        reason, text = BusinessRejectReason.OTHER, ""
        if action == UNSUBSCRIBE:
            if client.statuses.pop(key, None) is None:
                reason, text = BusinessRejectReason.UNKNOWN_ID, "There is no such subscription"
        elif any(symbol not in self._phases for symbol in symbols):
            reason = BusinessRejectReason.APPLICATION_NOT_AVAILABLE
            text = "Trading phases are not known yet; try again"
        elif key in client.statuses or len(req_id) > REQ_ID_LENGTH_MAX:
            text = "The id of the request is in use, or too long"
        elif action == SUBSCRIBE and client.count() + len(symbols) > self._subscriptions_max:
            text = self._too_many()
        else:
            phases = self._phases
            subscriptions = [StatusSubscription(req_id, name, phases[name]) for name in symbols]
            for one in subscriptions:
                body = status_body(msg_type, req_id, one.sent, unsolicited=False)
                client.answers.append((msg_type, body))
            if action == SUBSCRIBE:
                client.statuses[key] = subscriptions
        if text:
            account = client.connection.account
            client.answers.append(business_refusal(event, account, reason, text))

    # ------------------------------------------------------------ rounds

    def flush(self, client: Client) -> None:
        """Bring one client up to date, or leave it behind for this round."""
        connection = client.connection
        session = connection.session
        if not connection.is_open or client.number != connection.number:
            if self._clients.get(connection) is client:
                self.forget(connection)
            return
        if not session.can_send:
            return
        if not client.may_write():
            client.leave_behind()
            return
        before = self.messages
        if self._send_answers(client) and self._send_statuses(client):
            self._send_markets(client)
        if self.messages != before:
            connection.settle()

    def _send_statuses(self, client: Client) -> bool:
        """Tell the phases that have changed; return whether all could be told."""
        for (msg_type, _), statuses in client.statuses.items():
            for one in statuses:
                now = self._phases[one.symbol]
                if now is not one.sent:
                    body = status_body(msg_type, one.req_id, now, unsolicited=True)
                    if not self._send(client, [(msg_type, body)]):
                        return False
                    one.sent = now
        return True

    def _send_markets(self, client: Client) -> None:
        """Bring subscriptions up to date, in turns, until the client has had its share."""
        left_bytes = ROUND_BYTES_MAX
        for req_id in list(client.markets):
            subscriptions = client.markets[req_id]
            for _ in range(len(subscriptions)):
                sent_bytes = self._send_market(client, subscriptions[0])
                if sent_bytes is None:
                    return
                done = subscriptions.popleft()
                if not done.once or done.mark is None:
                    subscriptions.append(done)
                left_bytes -= sent_bytes
                if left_bytes <= 0:
                    break
            del client.markets[req_id]
            if subscriptions:
                client.markets[req_id] = subscriptions
            if left_bytes <= 0:
                return

    def _send_market(self, client: Client, one: Subscription) -> int | None:
        """Bring one up to date; return how many bytes that took, None where numbers are wanted."""
        book = self.books.get(one.symbol)
        if book is None:
            return 0
        bodies = book.bodies(one.kind, one.mark, one.told)
        messages: list[Message] = [(msg_type, (one.prefix, shared)) for msg_type, shared in bodies]
        if messages and not self._send(client, messages):
            return None
        one.mark, one.told, one.behind = book.mark(one.kind), book.trade_count, 0
        return sum([len(shared.data) for _, shared in bodies])

    def _send_answers(self, client: Client) -> bool:
        """Send what waits to be answered; return whether all of it could be sent."""
        answers = client.answers
        while answers and self._send(client, [answers[0]]):
            answers.popleft()
        return not answers

    def _send(self, client: Client, messages: Sequence[Message]) -> bool:
        """Number messages and queue them, all or none; ask for numbers where there are too few."""
        connection = client.connection
        session = connection.session
        if len(messages) > session.out_remaining:
            connection.numbers_wanted = max(connection.numbers_wanted, len(messages))
            self._on_numbers(connection)
            return False
        now_ns = self._now_ns()
        for msg_type, body in messages:
            session.send_application(msg_type, body, now_ns=now_ns, stored=False)
        self.messages += len(messages)
        return True


def _response_id(client: Client, event: AppMessage) -> bytes:
    return b"%d-%d" % (client.number, event.msg_seq_num)
