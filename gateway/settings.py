"""What can be set about the gateways: ``[gateway]`` in exchange.toml.

All gateways of a venue should have the same settings, because a client may meet any of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.enums import SelfTradePrevention


class GatewaySettings(BaseModel):
    """``[gateway]``: where to listen, how much to take, how long to wait."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on. Without tls_cert FIX is plain text: not for anything but loopback."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 9878
    """The first gateway's port; taken: the next free one. The others follow."""
    count: Annotated[int, Field(ge=1, le=16)] = 2
    """Gateways that ``up`` starts."""
    comp_id: Annotated[str, Field(pattern=r"^[!-~]{1,32}$")] = "SHARDEX"
    """Our CompID: TargetCompID (56) of every client."""
    tls_cert: Path | None = None
    """Certificate chain (PEM). With it and tls_key the gateways speak TLS 1.2 or newer, and nothing
    else. Read again when the gateway gets SIGHUP."""
    tls_key: Path | None = None
    """Private key (PEM) of tls_cert, without a passphrase."""
    tls_client_ca: Path | None = None
    """CA (PEM) of clients' certificates. With it a client must present one, whose common name is
    the SenderCompID of its Logon; another gets a Logout that says so."""
    tls_handshake_timeout_s: Annotated[int, Field(ge=1, le=60)] = 5
    """From the connection to the end of the TLS handshake; then closed."""
    tls_handshakes_max: Annotated[int, Field(ge=1, le=10_000)] = 100
    """TLS handshakes under way at once; the next connections are closed at once."""
    max_sessions: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Sessions logged on to one gateway; the next logon gets a Logout that says so."""
    journal_fsync: Literal["strict", "overlapped"] = "overlapped"
    """strict: an order waits for the fsync of its raw message; overlapped: the fsync runs beside
    Redis' own, at most one batch behind."""
    journal_compressed: bool = True
    """Closed segments of the journal (64 MB) are compressed, in the background; both kinds are
    read. Journals are never deleted: they rebuild the database."""

    max_message_bytes: Annotated[int, Field(ge=512, le=65_536)] = 8_192
    """A longer message is answered by a Logout that says so."""
    max_garbled_bytes: Annotated[int, Field(ge=512, le=1_048_576)] = 65_536
    """Bytes without a whole FIX message between them; more are answered by a Logout."""
    write_buffer_bytes_max: Annotated[int, Field(ge=65_536, le=1_073_741_824)] = 8_388_608
    """Bytes that wait for a slow reader; more: a Logout, then the connection is closed. Its reports
    are kept and come with the next logon."""
    orders_in_flight_max: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Orders and replaces of a session that the engine has not answered; the next is refused."""
    orders_per_s_max: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Orders and replaces of a session per second, at once and in the long run; more are refused
    (103=99, 102=99). Cancels are never limited."""
    requests_per_s_max: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Requests of a session for status or market data (H, AF, V, x, e, g) per second, at once and
    in the long run; each counts once per symbol or open order that it asks for. More are refused
    (35=j 380=0, 35=Y 281=2, 35=y 560=4). What cancels orders or ends a subscription never is."""
    backlog_max: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Inputs of a symbol that wait for its engine; with so many, orders and replaces are refused
    (103=99, 102=99). Cancels and status requests never are."""
    resend_age_max_s: Annotated[int, Field(ge=1, le=3_600)] = 10
    """An order or replace that is resent (43=Y) later than this after OrigSendingTime, and was
    never dealt with, is refused as stale (103=8). Cancels never are."""
    market_protection_ppm: Annotated[int, Field(ge=0, le=999_999)] = 50_000
    """How far from the best opposite price a market order may trade, and how far beyond its stop
    price a stop order (40=3), in parts per million."""
    self_trade_prevention: SelfTradePrevention = SelfTradePrevention.CANCEL_NEWEST
    """Of orders without tag 7928: 0 none, 1 cancel newest, 2 cancel oldest, 3 cancel both."""
    memory_used_percent_max: Annotated[int, Field(ge=1, le=100)] = 80
    """Redis' memory in use, of its maxmemory, beyond which new orders and replaces are refused
    (380=4), so that cancels and settlement still work."""

    logon_failures_free: Annotated[int, Field(ge=0, le=1_000)] = 3
    """Failed logons of a SenderCompID from one address that cost nothing; each further one doubles
    the wait before the next try from there, from 1 s to logon_wait_max_s. Whoever tries meanwhile
    gets a Logout that says so, right password or not. A success clears it."""
    logon_address_failures_free: Annotated[int, Field(ge=0, le=100_000)] = 50
    """Failed logons from one address (IPv6: one /64), whatever the SenderCompID, likewise; who
    tries meanwhile is closed without a word, and no success clears it."""
    logon_wait_max_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Longest wait after failed logons. For each such time that passes one failure is forgiven."""
    market_data_interval_ms: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Market data over FIX is sent at most so often to a session, everything that is new at once;
    to one that does not read fast enough, less often."""
    market_data_subscriptions_max: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Symbols that a session may be subscribed to, over all its requests; the next one is refused
    (35=Y 281=2, 35=j 380=0)."""
    logon_pending_max: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Logons whose password is being checked, two at a time; more get a Logout that says so."""
    signed_logon_window_s: Annotated[int, Field(ge=1, le=120)] = 5
    """A signed Logon (95, 96) is taken while SendingTime (52) is no further from our clock."""
    connections_max: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    """Connections, logged on or not; the next ones are closed at once."""
    heart_bt_int_min_s: Annotated[int, Field(ge=1, le=60)] = 1
    """Shortest HeartBtInt (108) of a Logon; one outside is answered by a Logout."""
    heart_bt_int_max_s: Annotated[int, Field(ge=1, le=3_600)] = 60
    """Longest HeartBtInt (108) of a Logon."""
    test_messages: bool = False
    """This is a test venue: Logons with TestMessageIndicator (464) = Y are taken."""
    session_reset_time: Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$")] = ""
    """Time of day (UTC, HH:MM) of a daily reset: whoever is logged on then is logged out, and the
    next logon begins at MsgSeqNum 1 both ways. Empty: numbers go on for ever."""
    sending_time_tolerance_s: Annotated[int, Field(ge=1, le=86_400)] = 120
    """SendingTime (52) further away than this from our clock: Reject 373=10, then Logout."""
    logon_timeout_s: Annotated[int, Field(ge=1, le=600)] = 10
    """From the connection to an accepted Logon; then closed without a word."""
    logout_timeout_s: Annotated[int, Field(ge=1, le=60)] = 5
    """From our Logout to the peer's, and to all bytes written; then the connection is cut."""
    resend_timeout_s: Annotated[int, Field(ge=1, le=600)] = 30
    """A gap in a client's sequence that has not moved for so long ends in a Logout."""
    sweep_interval_ms: Annotated[int, Field(ge=10, le=60_000)] = 1_000
    """How often all outboxes are read although no wake-up came: the longest a report can be late
    when a wake-up was lost."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("expected both of tls_cert and tls_key, or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca: expected tls_cert and tls_key, too")
        return self

    @model_validator(mode="after")
    def _heart_beats_have_a_range(self) -> Self:
        if self.heart_bt_int_min_s > self.heart_bt_int_max_s:
            raise ValueError(
                f"heart_bt_int_min_s: expected at most heart_bt_int_max_s"
                f" ({self.heart_bt_int_max_s}), received {self.heart_bt_int_min_s}"
            )
        return self

    def daily_reset_s(self) -> int | None:
        """Return the second of the UTC day of the daily reset, or None where there is none."""
        if not self.session_reset_time:
            return None
        hour, minute = self.session_reset_time.split(":")
        return int(hour) * 3_600 + int(minute) * 60
