"""Compose and operate the exchange: commands, settings, embedded servers, supervision.

Imports everything; nothing imports ops.

errors.py             OpsError and its family
data_dir.py           the lock and the versions of a data directory
child_process.py      children that end with their parent, and not as root; launch.py becomes one
embedded.py           what the private servers share: port, log, start, stop
embedded_redis.py     a private redis-server
embedded_postgres.py  a private PostgreSQL
"""
