"""The register of every key and channel name in the system. Pure.

Nobody else formats one. ``{...}`` below are placeholders, not hash tags.

Accounts database (DB 0)::

    home:{symbol}       hash    shard, db, incarnation (random, made once), rules (version in
                                force), define (the encoded DefineSymbol in force)
    bal:{account}       hash    {asset}:a available, {asset}:p pending, {asset}:h held; decimal ints
    open:{account}      hash    {symbol}|{ClOrdID} ->
                                "{order_seq} {side} {price_ticks} {leaves_lots} {cum_lots} {hold}
                                {max_fee_ppm} {ord_type} {tif} {cum_price_qty}", and, of an order
                                that has conditions or is post-only, " {stop_ticks}
                                {max_floor_lots} {min_qty_lots} {expire_us} {working} {post_only}"
    outbox:{account}    stream  dense n-0: e an encoded Output (x the symbols that a mass cancel did
                                not reach); or a command that admission refused: c command,
                                s symbol, w why, t stamp in µs; or open orders: q request, m its
                                MsgSeqNum, f how many came before, n how many in all, o fields and
                                values of open:{account} as msgpack, t; or q, m, w, t; or copies
                                that are missing here: l how many, f since when, t. A copy for
                                drop copy begins with a whose it is, i the number of the original
    copies              hash    account -> the accounts that get copies of what it is told
    lost                hash    account -> copies that it did not get, because too many were not
                                sent; {account}:since -> since when, µs since 1970
    session:{account}   hash    the FIX session: epoch, owner, until_ms, number, dealt, out_limit,
                                next_out, cursor; began_ms: since when the numbers go on; listed:
                                the last outbox entry with open orders, listing: the work that those
                                ahead of the cursor were; signed_us: SendingTime of the last signed
                                Logon; stored: "{number} {count}", messages stored since the last
                                of marks ("{MsgSeqNum} …"); grace_ms: of cancel on disconnect
                                ('' = off), missed: symbols in which that is still to be done;
                                restored: see there
    sent:{account}:{number}
                        stream  {last MsgSeqNum}-0: m whole FIX messages, f MsgSeqNum of the first
    disconnects         zset    account -> ms since 1970 at which it counts as gone, where that
                                cancels its orders
    user:{account}      hash    username, password_hash, created_us, disabled; keys, addresses,
                                drop_copy (separated by spaces); max_open_orders, max_order_value
                                ("{asset}={amount} …"), orders_per_s, cancel_on_disconnect_s
    usernames           hash    username -> account
    user_ids            counter the last account given; they start at 1, account 0 takes the fees
    ledger              stream  dense n-0: users, credentials, deposits, withdrawals
    ledger:refs         hash    {ref} -> the whole request and its ledger id: none counts twice
    totals              hash    asset -> deposits - withdrawals
    settled             hash    symbol -> seq of the last settled input
    bbo                 hash    symbol -> "{bid_ticks} {ask_ticks} {seq}" (0: none), with settlement
    position:writer     hash    symbol -> seq, "ledger" -> n: what Postgres has; trimming and status
    position:marketdata hash    symbol -> seq that market data has published
    position:{engine}   hash    symbol -> seq up to which this engine needs no orders any more: its
                                older snapshot and its journal have them; "ledger" -> n that is
                                durable in its journal
    restored            string  µs since 1970 at which the venue was restored from a backup; in a
                                session: the one after which its client has begun anew
    cleared             string  run id of the server whose ledger has been compared with a journal
    process:{name}      string  JSON of what a process said last, with a TTL
    md:{symbol}:...             market data, see docs/market-data.md

Shard database (DB n)::

    home:{symbol}       string  the same incarnation
    orders:{symbol}     stream  dense {seq}-0: c encoded command, t stamp in µs
    events:{symbol}     stream  dense {seq}-0: e encoded Output
    skips:{symbol}      hash    seq -> "{stamp in µs} {reason}": inputs that an operator skips
    phase:{symbol}      hash    changes of the trading phase: seq: the command of the last one;
                                scheduled: µs since 1970 for which the last one of the schedule was
                                meant
    phase:{symbol}:{name}
                        string  seq of the command that this request for a change became, with a TTL
    lease               hash    the shard's leader: owner, epoch, until_ms; handover: the epoch that
                                is asked to hand over
    cleared             string  run id of the server whose streams have been compared with a journal

The last entry of a dense stream is never trimmed: the next number is read off it.

Pub/sub channels do not know databases: ``wake`` (accounts with news, separated by spaces),
``control`` (to gateways: ``disabled``, ``limits``, ``contested`` or ``alive``, and an account),
``md:{symbol}:trades``, ``:bbo``, ``:depth``, ``:status``; ``md:control`` (to market data: a symbol
whose ``md:{symbol}:orders`` is wanted).
"""

from __future__ import annotations

ACCOUNTS_DB = 0
USERNAMES = "usernames"
USER_IDS = "user_ids"
LEDGER = "ledger"
LEDGER_REFS = "ledger:refs"
TOTALS = "totals"
SETTLED = "settled"
BBO = "bbo"
COPIES = "copies"
LOST = "lost"
DISCONNECTS = "disconnects"
POSITION_WRITER = "position:writer"
POSITION_MARKETDATA = "position:marketdata"
LEASE = "lease"
CLEARED = "cleared"
RESTORED = "restored"
WAKE_CHANNEL = "wake"
CONTROL_CHANNEL = "control"
MD_CONTROL_CHANNEL = "md:control"
CANDLE_INTERVALS = ("1m", "5m", "1h", "1d")


def home(symbol: str) -> str:
    """Return the key of a symbol's home, in the accounts DB and in the shard's."""
    return f"home:{symbol}"


def balances(account: int) -> str:
    """Return the key of an account's balances."""
    return f"bal:{account}"


def available(asset: str) -> str:
    """Return the balance field of what an account may spend or withdraw."""
    return f"{asset}:a"


def pending(asset: str) -> str:
    """Return the balance field of what is reserved for commands that no engine has settled yet."""
    return f"{asset}:p"


def held(asset: str) -> str:
    """Return the balance field of what resting orders hold."""
    return f"{asset}:h"


def open_orders(account: int) -> str:
    """Return the key of an account's open orders."""
    return f"open:{account}"


def open_field(symbol: str, cl_ord_id: str) -> str:
    """Return the field of one open order."""
    return f"{symbol}|{cl_ord_id}"


def outbox(account: int) -> str:
    """Return the key of the stream of an account's reports."""
    return f"outbox:{account}"


def outbox_pattern() -> str:
    """Return the glob pattern of all outboxes."""
    return "outbox:*"


def session(account: int) -> str:
    """Return the key of an account's FIX session."""
    return f"session:{account}"


def sent(account: int, number: int) -> str:
    """Return the key of the messages sent in one incarnation of an account's FIX session."""
    return f"sent:{account}:{number}"


def sent_pattern() -> str:
    """Return the glob pattern of all sessions' stores of sent messages."""
    return "sent:*"


def user(account: int) -> str:
    """Return the key of a user."""
    return f"user:{account}"


def process(name: str) -> str:
    """Return the key under which a live process reports itself."""
    return f"process:{name}"


def engine_name(shard_id: int, *, standby: bool) -> str:
    """Return the name of an engine's process, under which its journal and snapshots stand."""
    return f"engine-{shard_id}-standby" if standby else f"engine-{shard_id}"


def engine_names(shard_id: int) -> tuple[str, str]:
    """Return the names of the two engines that a shard may have."""
    return engine_name(shard_id, standby=False), engine_name(shard_id, standby=True)


def orders(symbol: str) -> str:
    """Return the key of a symbol's stream of commands, in its shard's DB."""
    return f"orders:{symbol}"


def events(symbol: str) -> str:
    """Return the key of a symbol's stream of outputs, in its shard's DB."""
    return f"events:{symbol}"


def skips(symbol: str) -> str:
    """Return the key of the inputs of a symbol that are skipped, in its shard's DB."""
    return f"skips:{symbol}"


def phase(symbol: str) -> str:
    """Return the key of the last changes of a symbol's trading phase, in its shard's DB."""
    return f"phase:{symbol}"


def position_engine(name: str) -> str:
    """Return the key of what an engine needs no more of the streams.

    Args:
        name: of its process, such as engine-1 or engine-1-standby.
    """
    return f"position:{name}"


def md_trades(symbol: str) -> str:
    """Return the channel of a symbol's trades."""
    return f"md:{symbol}:trades"


def md_bbo(symbol: str) -> str:
    """Return the channel of a symbol's best bid and offer."""
    return f"md:{symbol}:bbo"


def md_depth(symbol: str) -> str:
    """Return the channel of a symbol's level-2 increments."""
    return f"md:{symbol}:depth"


def md_status(symbol: str) -> str:
    """Return the channel of a symbol's trading phase."""
    return f"md:{symbol}:status"


def md_phase(symbol: str) -> str:
    """Return the key of a symbol's trading phase."""
    return f"md:{symbol}:phase"


def md_orders(symbol: str) -> str:
    """Return the key of a symbol's displayed orders, which is there for a while when asked for."""
    return f"md:{symbol}:orders"


def md_snapshot(symbol: str) -> str:
    """Return the key of a symbol's depth snapshot."""
    return f"md:{symbol}:snapshot"


def md_ticker(symbol: str) -> str:
    """Return the key of a symbol's 24 h ticker."""
    return f"md:{symbol}:ticker"


def md_candles(symbol: str, interval: str) -> str:
    """Return the key of a symbol's candles of one interval of ``CANDLE_INTERVALS``."""
    return f"md:{symbol}:candles:{interval}"


def md_state(symbol: str) -> str:
    """Return the key of what market data needs to go on after a restart."""
    return f"md:{symbol}:state"
