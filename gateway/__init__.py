"""Speak FIX 4.4 with clients: sessions, order entry, execution reports.

Imports engine and router.

    errors.py            the family of errors
    settings.py          [gateway]; settled.py hands it to the parts

    fix_tags.py          tags, message types, session reject reasons
    fix_fields.py        every field: name, type, values
    fix_messages.py      every message: its fields and groups, as data
    fix_dictionary.py    the rules that follow for what clients send
    fix_time.py          UTCTimestamp
    fix_framer.py        bytes to whole messages
    fix_message.py       a parsed message; making messages
    validate.py          what the session layer rejects

    session.py           FixSession: bytes and time in, events and messages out
    session_events.py    its values
    session_state.py     its state tables
    session_logon.py, session_header.py, session_messages.py, session_inbound.py,
    session_outbound.py, session_resends.py, session_timers.py    its parts

    symbol_texts.py      prices and quantities of a symbol as text
    order_kinds.py       which side, type, time and ExecInst go together
    order_values.py      prices, quantities and amounts within the rules of a symbol
    order_conditions.py  stop price, displayed and least quantity, expiry, cash
    order_terms.py       business checks of orders and replaces
    account_limits.py    what one account may do
    refusals.py          what refuses a message
    mass_requests.py     mass cancel and mass status
    orders_in.py         messages to commands
    reservations.py      protection prices, reservations of replaces
    report_fields.py     what reports about orders have in common
    order_lists.py       open orders to reports
    reports_out.py       events to reports
    throttle.py          token buckets; waits that double with failures

    connection.py        one socket around a FixSession
    pipeline.py          the ring: journal, encode, forward
    encoder.py           the encode stage
    lookups.py           what must be read before admission
    dispatch.py          the forward stage: admission, 380=4
    reporter.py          outboxes to clients
    outbox_reports.py    what an outbox entry says, copies too
    disconnects.py       looks whose client is gone for good
    market_requests.py   what a MarketDataRequest asks for
    market_refusals.py   how requests for market data are refused; what they count for their rate
    market_book.py       a symbol's book, and the messages made of it
    market_subscriptions.py  what a session is subscribed to
    market_desk.py       answers market data requests; rounds of messages
    market_feed.py       books from events, trading phases
    security_texts.py    lists and states of symbols
    contest.py           whether the first of two connections for a session is still there
    session_keeper.py    logon, renewal, numbers, release
    resends.py           what a ResendRequest asks for
    daily_reset.py       the daily reset of sequence numbers, where there is one
    auth.py              who may log on: address, password or signature, attempts
    logon_signature.py   Ed25519 over a Logon
    tls.py               contexts, handshakes, names of certificates
    watch.py             wake-ups, operators' messages, Redis' memory
    server.py            Gateway: all of it, wired and run
    fixlog.py            the raw journal, readable
"""
