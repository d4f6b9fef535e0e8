"""Match orders: the pure, deterministic kernel, and the shell that runs one shard.

Imports nothing of ours and can be used as a library, without Redis: `book.OrderBook` is a book that
a program drives directly, `shard.Shard` the whole state of any number of symbols with accounts.

errors.py          the root of all errors, and the engine's own
enums.py           enumerations, with FIX's values
limits.py          every size limit, with its reason
instrument.py      the rules of a symbol; decimal text to integers and back
commands.py        what goes in: orders, cancels, replaces, definitions
events.py          what comes out: one Output per input
trades.py          the trades of an output
price_levels.py    one side of a book by price, for readers
order_replica.py   the displayed book, kept from events alone
ledger_entries.py  entries of the ledger: users, credentials, deposits
level.py           a resting order and the queue of one price
book.py            the order book, structure only; also driven directly
book_naive.py      the slow obvious book, the reference
fees.py            what an order owes and must hold
checks.py          orders against the rules of their symbol
conditions.py      stops, icebergs, expiry, minimum, cash: what goes together
bands.py           how far from the last trade an order may be priced
phases.py          what each trading phase takes
auction.py         an auction: one price, then trade after trade
opening.py         changes of the trading phase, and the auction that an opening begins with
matcher_content.py one symbol's state as plain values
open_order.py      orders with accounts and money; used ClOrdIDs
turn.py            what one input does, while it is being applied
reports.py         events made from orders
replacing.py       what a replace comes to
queries.py         status requests, and messages that came before
stops.py           stop orders that wait
expiry.py          which orders end because of the time
lookahead.py       what an order would trade if it came in now
skip.py            what becomes of an input that an operator passes over
trading.py         what accepted orders do: trade, rest, wait, end; their money
matching.py        what one command does: one symbol
shard.py           the symbols of one engine: next input in, all it does out
settlement.py      an applied input as it is committed
snapshot.py        one symbol's state as bytes
snapshot_store.py  snapshots on disk: whole or not at all; finds the newest good one
snapshot_keeper.py saves a running shard from a forked child
recovery.py        a shard from snapshots, journals and streams
journal.py         records of the journal as bytes
journal_keys.py    what an engine's journal has besides commands
journal_file.py    append-only segments
journal_reader.py  reads a journal; torn tails and corruption
journal_archive.py compresses closed segments
journal_writer.py  group commit in a thread
ring.py            the bounded ring: sequences, barriers, gating
ring_loop.py       runs a ring's consumers
histogram.py       latencies with percentiles
settings.py        `[engine]`
runner.py          the shard's loop: journal, match, commit
"""
