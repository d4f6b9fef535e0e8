"""Whole venues in virtual time: production code between a simulated Redis, network and disk.

clock.py        an event loop without real time, in which processes can be paused and killed
network.py      connections in memory: late, cut, half-open
redis_store.py  what Redis keeps: strings, hashes, sorted sets, streams
redis_server.py commands, pub/sub, blocking reads, and the project's own Lua scripts
postgres.py     the tables, behind the interface of the PostgresWriter
disk.py         journals: torn tails, lost pages, refused writes
client.py       a FIX client that trades at random and remembers what it was told
requests.py     what it sends: every kind of order and request
disconnects.py  who is there and who has gone: when orders may be canceled for that
plan.py         what a seed decides
venue.py        assets, symbols, settings
production.py   what is replaced inside production code, all in one place
world.py        one venue from start to rest
nemesis.py      what goes wrong meanwhile
checkers.py     what must hold at rest
history.py      the same streams, applied again without any fault
breakages.py    deliberate faults, each of which a checker must find
many.py         many worlds beside each other
__main__.py     the command: many worlds, or one seed again
"""
