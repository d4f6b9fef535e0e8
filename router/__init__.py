"""Connect the processes: every Redis key, channel, script and stream of the system.

Maps a symbol to its shard. Imports engine.

errors.py            what goes wrong between processes
keys.py              the register of every key and channel
shards.py            symbol to shard, as exchange.toml says
settings.py          `[redis]`
redis_client.py      one connection; retries while Redis is away
scripts.py           loads and runs `scripts/*.lua`
dense_ids.py         entry ids of dense streams, and where such a stream ends
homes.py             where each symbol lives, its incarnation and rules
admission.py         gateway to streams: reserved, published, once
commit.py            engine to accounts and streams: settled, published, once
phases.py            changes of the trading phase, as commands
ticks.py             the leader's clock: commands where no other input comes
skips.py             inputs that an operator has engines pass over
clearance.py         compares a server with the journal, and clears it
repair.py            puts back what a Redis that took over has lost
lease.py             who leads a shard
leadership.py        acquires the lease, checks the server, keeps leading
standby.py           an engine's way out while it leads and while it follows
sessions.py          FIX sessions: owner, numbers, sent messages
disconnects.py       whose client is gone for good, and the cancels that follow
outbox.py            what an account is to be told
open_orders.py       open orders and best prices, for gateways
market_state.py      what market data keeps for gateways: displayed orders, phases
streams.py           readers of dense streams; the engine's source of commands
subscriber.py        pub/sub
ledger.py            deposits, withdrawals, balances
ledger_journal.py    the ledger in an engine's journal
users.py             users and their credentials
user_access.py       public keys of users, and addresses that they may log on from
user_settings.py     limits, cancel on disconnect, drop copy
user_fields.py       fields of users' records, each with its ledger entry
process_registry.py  which processes live, and what they count
venue_cut.py         the whole venue at one moment
trimming.py          how far readers are; trims events below them
"""
