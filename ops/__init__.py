"""Compose and operate the exchange: commands, settings, embedded servers, supervision.

Imports everything; nothing imports ops.

embedded_redis.py     a private redis-server
embedded_postgres.py  a private PostgreSQL server
data_dir.py           the lock and the versions of a data directory
child_process.py      server processes that end with their parent; free ports
"""
