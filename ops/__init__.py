"""Compose and operate the exchange: commands, settings, embedded servers, supervision.

Imports everything; nothing imports ops.

__main__.py           shardex, the command line; one commands_*.py per group of commands
cli.py                what the commands share: parsers, settings, connections, printing, exit codes
commands_up.py        up
process_command.py    each process alone: commands_gateway.py, commands_engine.py,
                      commands_marketdata.py, commands_writer.py
commands_status.py    status
commands_failover.py  failover, forget-standby
commands_reconcile.py reconcile
commands_repair.py    repair
commands_replay.py    replay, diff: journal_replay.py by journal_replay_symbols.py, in processes
journal_replay_into.py fills an empty database; database_diff.py compares two
commands_audit.py     audit: audit_journals.py reads, audit_fix.py judges one account
audit.py              what is audited and why; audit_terms.py compares a message and its command
commands_skip.py      skip
commands_phase.py     phase
commands_users.py     user add, list, passwd, disable; commands_user_access.py user key, addresses;
                      commands_user_settings.py user show, set, drop-copy
commands_ledger.py    deposit, withdraw, balances
commands_market.py    symbols, book, watch
commands_fixlog.py    fixlog
lost_writes.py        what Redis lacks of the journals of a shard that nobody leads, for status
venue_servers.py      the servers of a venue for one command, started for it where it is stopped
commands_backup.py    backup, restore: backup.py copies a venue, restore.py makes one of the copy
settings.py           exchange.toml and the environment, validated; venue_file.py is the venue in it
schedule.py           what is due of a timetable; schedule_keeper.py makes it, beside an engine
wiring.py             what every process is built with, and reports itself by
gateway_process.py    a gateway from its settings; likewise marketdata_process.py and
                      writer_process.py; engine_process.py the engines, engine_server.py whether an
                      engine may lead on its server
up.py                 the whole exchange: start, endpoints, summary, stop
processes.py          supervision: start and stop order, restart with back-off, signals
services.py           what is supervised: processes of the exchange, private servers
redis_acl.py          each process's Redis user, and the passwords; commands_acl.py acl
private_file.py       files for their owner alone
endpoints.py          var/endpoints.json, and finding the running exchange by it
demo_users.py         the demo's users and balances
accounts.py           naming accounts and amounts on the command line
journalled.py         waits until the leader's journal has what a command did
progress.py           how far each symbol has got, process by process
engine_roles.py       which engine leads or follows, and how far behind it is
status.py             what `status` says, with the limits beyond which it warns
reconcile.py          what must hold in a venue; reconcile_replay.py what inputs have brought
reconcile_cut.py      what one cut shows; reconcile_reader.py the whole, by reconcile_streams.py
reconcile_watch.py    looks at a cut now and then, in `up`; silence_watch.py who is silent
summary.py            the live summary of `up`
watch.py              a symbol's ladder and tape, live
terminal.py           lines that stay, a block that is redrawn, tables
logs.py               lines on stderr, bounded log files
commands_flow.py      replay-flow, simulate, demo-market
flow.py               recorded order flow: files and meaning; flow_requests.py: rows as FIX requests
flow_player.py        plays a flow and compares; flow_recorder.py follows the public feed meanwhile
flow_check.py         what was answered, against what is true; flow_reference.py works that out
flow_generator.py     a realistic flow; demo_market.py keeps its book by reports
demo.py               the demo's participants
fix_client.py         a FIX client; fix_initiator.py is its session, fix_orders.py its messages,
                      fix_sent.py what it may send again, fix_wire.py its bytes, fix_tls.py its TLS
fix_documents.py      makes the tables of docs/fix.md (fix_tables.py), the dictionary (fix_xml.py)
commands_torture.py   torture
torture.py            clients trade while parts are killed: the play; torture_rest.py: its end
torture_cast.py       who takes part, torture_users.py as whom; torture_summary.py
torture_plan.py       which part is struck when; torture_chaos.py does it; torture_parts.py
torture_client.py     how each client lives, by torture_line.py
torture_trader.py     one that trades; torture_requests.py: what it sends, torture_record.py: is
                      told, torture_lists.py: is listed as open
torture_copier.py     one with copies; torture_watcher.py: with torture_books.py of market data
torture_deposits.py   an operator, torture_phases.py another
torture_checks.py     what must hold at the end; torture_market.py: of market data
private_venue.py      a venue of its own for a command, benchmark or test
errors.py             OpsError and its family
data_dir.py           the lock and the versions of a data directory
child_process.py      children that end with their parent, and not as root; launch.py becomes one
embedded.py           what the private servers share: port, log, start, stop
embedded_redis.py     a private redis-server
append_only.py        the torn end of its append-only file
embedded_postgres.py  a private PostgreSQL
"""
