"""``shardex acl``: the users that processes have on servers of your own."""

from __future__ import annotations

import argparse

from ops.cli import EXIT_OK, Subparsers, add_command, settings_of
from ops.redis_acl import acl_lines, ensure_passwords
from persistence.roles import WRITER_ROLE, writer_grants

_DETAILS = """\
For a Redis of your own: prints ACL SETUSER commands for redis-cli, with digests of the passwords
that are made, and kept in redis-passwords.json (mode 0600) of var_dir, at the first run. Apply them
(`shardex acl | redis-cli`, and `ACL SAVE` or `--file` to keep them), switch the default user off
when nobody needs it, and set redis.acl_users. The private server of `up` has these users already.

With --postgres: SQL for the owner of a PostgreSQL database. Let the owner make the tables first,
by starting the writer as the owner once; then set the role's password (\\password in psql), and
postgres_url to the role."""


def add_parsers(commands: Subparsers) -> None:
    """Add acl."""
    parser = add_command(
        commands, "acl", _acl, summary="Print the users for servers of your own", details=_DETAILS
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--file", action="store_true", help="as lines of Redis' ACL file")
    form.add_argument("--postgres", metavar="DATABASE", help="the writer's role, as SQL")


def _acl(args: argparse.Namespace) -> int:
    if args.postgres is not None:
        statements = [statement.as_string(None) for statement in writer_grants(args.postgres)]
        print(f'CREATE ROLE "{WRITER_ROLE}" LOGIN;')
        print("\n".join(f"{statement};" for statement in statements))
        return EXIT_OK
    default, *lines = acl_lines(ensure_passwords(settings_of(args).var_dir))
    if args.file:
        print("\n".join([default, *lines]))
        return EXIT_OK
    for line in lines:
        _, name, rules = line.split(" ", 2)
        print(f"ACL SETUSER {name} reset {rules}")
    return EXIT_OK
