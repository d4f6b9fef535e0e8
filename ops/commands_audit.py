"""``shardex audit``: every order that was admitted has its FIX message, and the reverse."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from ops.audit_journals import AuditResult, audit_journals
from ops.cli import EXIT_FAILED, EXIT_OK, Subparsers, add_command, print_data, settings_of
from ops.data_dir import check_layout
from ops.wiring import journal_directory

_UNANSWERED_SHOWN_MAX = 20

_DETAILS = """\
Compares the raw FIX journals of all gateways with the command journals of the engines,
both ways: each command has its message, with the same account, MsgSeqNum, ClOrdID,
symbol, side, quantity, price and kind; each D, F, G or H that a gateway took has a
command, or a refusal on record, or was sent again. A message that was never answered,
because its gateway died or is still at it, is listed but no difference. The venue may
trade meanwhile. Prints every difference; any makes it exit with 1."""


def add_parsers(commands: Subparsers) -> None:
    """Add audit."""
    parser = add_command(
        commands,
        "audit",
        _audit,
        summary="Compare the gateways' FIX journals with the engines' command journals",
        details=_DETAILS,
        json=True,
    )
    parser.add_argument(
        "--journals",
        type=Path,
        metavar="DIR",
        help="where gateway-* and engine-* are (default: journals in var_dir)",
    )


def _audit(args: argparse.Namespace) -> int:
    if args.journals is None:
        directory = journal_directory(settings_of(args), "")
    else:
        directory = args.journals
        # What they may stand in: var/journals.
        check_layout(directory.absolute().parent)
    result = audit_journals(directory)
    if args.json:
        print_data(msgspec.to_builtins(result))
    else:
        _print(result)
    return EXIT_FAILED if result.difference_count else EXIT_OK


def _print(result: AuditResult) -> None:
    for finding in result.differences:
        print(finding)
    for finding in result.unanswered_first[:_UNANSWERED_SHOWN_MAX]:
        print(finding)
    if result.unanswered > _UNANSWERED_SHOWN_MAX:
        print(f"… and {result.unanswered - _UNANSWERED_SHOWN_MAX:,} more are unanswered")
    count = result.difference_count
    later = result.commands_later
    print(
        f"{f'{count:,} differences' if count else 'clean'}:"
        f" {result.commands_matched:,} of {result.commands:,} commands have their message"
        f"{f', {later:,} came after the look began' if later else ''};"
        f" of {result.messages:,} messages {result.matched:,} have a command,"
        f" {result.refused:,} were refused, {result.resent:,} sent again,"
        f" {result.unanswered:,} unanswered; {result.elapsed_s:.1f} s"
    )
