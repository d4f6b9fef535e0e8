"""Write what happened into PostgreSQL, off the critical path. Imports engine and router.

errors.py     the family of errors
settings.py   [writer] and [postgres]
schema.sql    the tables, explained
schema.py     creates them, or refuses those of another version
roles.py      the writer's role, which can make no table
table.py      a target of COPY
rows.py       an event or ledger entry becomes a line of COPY text
execution_rows.py
              reports as rows of COPY's binary format
batch.py      what stands in one transaction, and when it is written
writer.py     batches into PostgreSQL, each exactly once
stored.py     balances and open orders as the tables have them
told.py       what a user has been told, as the tables have it
table_rows.py every row of every table, in the order of its key, for comparing databases
service.py    streams to batches to writer; waits while a server is away
"""
