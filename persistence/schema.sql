-- The tables of the exchange: version 3. Applied by schema.py into an empty schema, in one transaction.
--
-- Everything here is derived from two kinds of Redis streams: events:{symbol} (what the engine says about each
-- input) and ledger (users, credentials, deposits, withdrawals). There is no DEFAULT now() and no serial: reading
-- the same streams again gives the same rows. Amounts, prices and quantities are human decimals (NUMERIC);
-- times are those of the streams' entries.
--
-- Names and ids compare as bytes (COLLATE "C"): they are identities, and that is the quicker way.

CREATE TABLE schema_version (
    version int PRIMARY KEY
);

-- Up to where each stream stands in the tables. Moves in the transaction of the rows: see writer.py.
CREATE TABLE stream_positions (
    stream      text COLLATE "C" PRIMARY KEY,  -- a symbol, or 'ledger'
    position    bigint NOT NULL,               -- the last entry that the rows contain; 0: none yet
    incarnation text NOT NULL                  -- of the symbol's home; '' for the ledger
);

CREATE TABLE assets (
    asset text COLLATE "C" PRIMARY KEY,
    scale int NOT NULL                         -- amounts are whole numbers of 10^-scale
);

CREATE TABLE symbols (
    symbol        text COLLATE "C" PRIMARY KEY,
    base          text COLLATE "C" NOT NULL,
    quote         text COLLATE "C" NOT NULL,
    base_scale    int NOT NULL,
    quote_scale   int NOT NULL,
    tick_size     numeric NOT NULL,
    lot_size      numeric NOT NULL,
    maker_fee_ppm int NOT NULL,
    taker_fee_ppm int NOT NULL,
    rules_version int NOT NULL,
    incarnation   text NOT NULL
);

CREATE TABLE users (
    id             bigint PRIMARY KEY,         -- the account
    username       text NOT NULL UNIQUE,
    password_hash  text NOT NULL,
    sender_comp_id int NOT NULL UNIQUE,
    created_at     timestamptz NOT NULL,
    disabled       boolean NOT NULL
);

-- Account 0 takes the fees. It is nobody's login: an empty hash matches no password.
INSERT INTO users VALUES (0, '(fees)', '', 0, 'epoch', true);

-- What operators have settled about users: limits, cancel on disconnect, whose reports are copied to them, public
-- keys, allowed addresses. One row per field that was ever set, as the record in Redis has it (router/user_fields.py).
CREATE TABLE user_settings (
    user_id    bigint NOT NULL REFERENCES users (id),
    field      text COLLATE "C" NOT NULL,      -- max_open_orders, max_order_value, orders_per_s,
                                               -- cancel_on_disconnect_s, drop_copy, keys, addresses
    value      text NOT NULL,                  -- whole; '': none
    position   bigint NOT NULL,                -- the entry of the ledger stream that set it last
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, field)
);

-- One row per order that reached an engine, as it stands now. Rows are updated in place: the space that fillfactor
-- leaves keeps most updates away from the index.
CREATE TABLE orders (
    id                 text COLLATE "C" PRIMARY KEY,  -- OrderID (37): {symbol}-{seq}
    symbol             text COLLATE "C" NOT NULL,
    seq                bigint NOT NULL,               -- the input that brought it
    user_id            bigint NOT NULL REFERENCES users (id),
    cl_ord_id          text NOT NULL,                 -- the last replacement's, once replaced
    side               text NOT NULL,                 -- buy, sell
    type               text NOT NULL,                 -- limit, stop_limit; market, stop (whose price is the protection price)
    time_in_force      text NOT NULL,                 -- day, gtc, opg, ioc, fok, gtd
    post_only          boolean NOT NULL,              -- as it was accepted
    price              numeric NOT NULL,
    quantity           numeric NOT NULL,
    remaining_quantity numeric NOT NULL,              -- 0 once it is done
    filled_quantity    numeric NOT NULL,
    status             text NOT NULL,  -- new, partially_filled, filled, canceled, expired, rejected
    reject_reason      int,                           -- OrdRejReason (103)
    reject_text        text,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL
) WITH (fillfactor = 85);

-- What few orders have besides, as it stands now: one row per order that has, or had, any of it. NULL: it has not.
CREATE TABLE order_conditions (
    order_id         text COLLATE "C" PRIMARY KEY,
    stop_price       numeric,                         -- StopPx (99)
    display_quantity numeric,                         -- MaxFloor (111) of an iceberg order
    min_quantity     numeric,                         -- MinQty (110)
    expire_at        timestamptz,                     -- ExpireTime (126)
    cash             numeric,                         -- CashOrderQty (152), in the quote asset
    triggered_at     timestamptz                      -- a stop order's; NULL: not yet
);

-- One row per change of a symbol's trading phase; a symbol begins in 'continuous'.
CREATE TABLE phase_changes (
    symbol           text COLLATE "C" NOT NULL,
    seq              bigint NOT NULL,                 -- the input that brought it
    index            int NOT NULL,                    -- of the event in its output
    phase            text NOT NULL,   -- continuous, pre_open, opening_auction, halted, cancel_only, closed
    reason           text NOT NULL,                   -- operator, schedule, price_band, auction_done, expiry_done
    auction_price    numeric,                         -- of the auction that it began, where something crossed
    auction_quantity numeric,
    changed_at       timestamptz NOT NULL,
    PRIMARY KEY (symbol, seq, index)
);

-- One row per trade. {symbol}-{seq}-{index} is its id on both sides' reports (527).
CREATE TABLE trades (
    symbol         text COLLATE "C" NOT NULL,
    seq            bigint NOT NULL,                   -- the input that caused it
    index          int NOT NULL,                      -- its number in that input
    maker_order_id text COLLATE "C" NOT NULL,
    taker_order_id text COLLATE "C" NOT NULL,
    maker_user_id  bigint NOT NULL,
    taker_user_id  bigint NOT NULL,
    taker_side     text NOT NULL,
    price          numeric NOT NULL,
    quantity       numeric NOT NULL,
    maker_fee      numeric NOT NULL,                  -- in the quote asset, as all fees
    taker_fee      numeric NOT NULL,
    executed_at    timestamptz NOT NULL,
    auction        boolean NOT NULL,                  -- the older order counts as the maker then; both pay its rate
    PRIMARY KEY (symbol, seq, index)
);

-- One row per report that the engine made for an account, and per input that an operator had it skip (user_id 0
-- where nobody waits for an answer to that): {symbol}-{seq}-{index} is its ExecID (17). `event` is
-- the event as it stands in the stream (execution_rows.decode_event); with symbol, seq and time it is all that a report needs.
-- The key serves the one question asked: what has this account missed in this symbol since that seq.
CREATE TABLE executions (
    user_id     bigint NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    seq         bigint NOT NULL,
    index       int NOT NULL,
    kind        text NOT NULL,  -- accepted, rejected, filled, canceled, replaced, triggered, cancel_rejected,
                                -- status, mass_cancel, skipped
    event       bytea NOT NULL,
    executed_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, symbol, seq, index)
);

-- `available` contains what is reserved for commands under way: a reservation becomes visible when it is settled.
-- No CHECK: what was gained on one stream may be spent on another that is further ahead.
CREATE TABLE balances (
    user_id   bigint NOT NULL REFERENCES users (id),
    asset     text COLLATE "C" NOT NULL,
    available numeric NOT NULL,
    held      numeric NOT NULL,
    PRIMARY KEY (user_id, asset)
) WITH (fillfactor = 70);

-- Deposits (positive) and withdrawals (negative).
CREATE TABLE transfers (
    position   bigint PRIMARY KEY,                    -- the entry of the ledger stream
    user_id    bigint NOT NULL REFERENCES users (id),
    kind       text NOT NULL,                         -- deposit, withdrawal
    asset      text COLLATE "C" NOT NULL,
    amount     numeric NOT NULL,
    ref        text NOT NULL,
    created_at timestamptz NOT NULL
);

-- Everything that changes what an account owns, besides the trades themselves: transfers, and what each side of
-- a trade paid. Fees stand in trades already, so they are not stored a second time.
CREATE VIEW ledger AS
SELECT 'ledger' AS stream, position, 0 AS index, user_id, kind, asset, amount, ref, created_at
FROM transfers
UNION ALL
SELECT t.symbol, t.seq, t.index, paid.user_id, paid.kind, s.quote, -paid.fee,
       t.symbol || '-' || t.seq || '-' || t.index, t.executed_at
FROM trades t
JOIN symbols s USING (symbol)
CROSS JOIN LATERAL (
    VALUES (t.maker_user_id, 'maker_fee', t.maker_fee), (t.taker_user_id, 'taker_fee', t.taker_fee)
) AS paid (user_id, kind, fee)
WHERE paid.fee <> 0;
