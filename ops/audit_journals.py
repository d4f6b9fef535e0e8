"""Audit a venue's journals on disk: see ``ops/audit.py`` for what is compared and why.

    engines' journals ─▶ commands of some accounts ─┐
    gateways' journals, merged by time ─────────────┴▶ findings

One pass holds the commands of a part of the accounts, some COMMANDS_PER_PASS of them at 400 bytes
each; with more commands than that everything is read again for each further part. (An account that
has more than that itself is held whole.) Both kinds of journals may be being written: what is
younger than the start of the audit is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from pathlib import Path

import msgspec

from engine.journal import Record
from engine.journal_keys import LEDGER
from engine.journal_reader import JournalReader
from gateway.fixlog import INBOUND
from ops.audit import CommandIndex, Finding
from ops.audit_fix import AccountAudit
from ops.errors import CommandFailed
from ops.journal_replay import choose_sources, journals_in, symbols_of
from ops.wiring import gateway_journals

COMMANDS_PER_PASS = 500_000
"""Commands that one pass holds, some 200 MB."""

FINDINGS_MAX = 1_000
"""Findings of a kind that are kept; all are counted."""

_UNANSWERED = "unanswered"


class AuditResult(msgspec.Struct, frozen=True):
    """What an audit found.

    Attributes:
        gateways, engines: names of the journals that were read.
        commands: that came by FIX; operators' own are left out.
        commands_matched: of these, with their message.
        commands_later: of these, that came while the audit ran; it does not look at their messages.
        messages: D, F, G and H that gateways took.
        matched, refused, resent, unanswered: what became of these.
        differences: at most FINDINGS_MAX of a kind.
        difference_count: all of them.
        unanswered_first: at most FINDINGS_MAX.
        passes: how often everything was read.
        elapsed_s: wall time, in s.
    """

    gateways: list[str]
    engines: list[str]
    commands: int
    commands_matched: int
    commands_later: int
    messages: int
    matched: int
    refused: int
    resent: int
    unanswered: int
    differences: list[Finding]
    difference_count: int
    unanswered_first: list[Finding]
    passes: int
    elapsed_s: float


class _Totals:
    """Sums over the passes."""

    def __init__(self) -> None:
        self.commands = self.commands_matched = self.commands_later = 0
        self.messages = self.matched = self.refused = self.resent = 0
        self.counts: dict[str, int] = {}
        self.kept: dict[str, list[Finding]] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if there are few of its kind."""
        kind = finding.kind
        self.counts[kind] = self.counts.get(kind, 0) + 1
        kept = self.kept.setdefault(kind, [])
        if len(kept) < FINDINGS_MAX:
            kept.append(finding)


def audit_journals(directory: Path, *, commands_per_pass: int = COMMANDS_PER_PASS) -> AuditResult:
    """Compare all gateways' journals in a directory with all engines' there.

    Args:
        directory: such as var/journals.
        commands_per_pass: see COMMANDS_PER_PASS.

    Raises:
        CommandFailed: there is no journal of one kind.
        JournalCorrupt, JournalMismatch: a journal is damaged.
        DecodeError: a record is no command.
    """
    started, now_ns = time.monotonic(), time.time_ns()
    gateways = gateway_journals(directory)
    if not gateways:
        raise CommandFailed(f"{directory}: there is no journal of a gateway")
    sources, _ = choose_sources(journals_in(directory))
    engines = sorted({journal for key, journal in sources.items() if key != LEDGER})
    count = sum(
        seq
        for journal in engines
        for symbol, seq in symbols_of(JournalReader(journal).positions()).items()
        if sources[symbol] == journal
    )
    parts = 1 + count // commands_per_pass
    totals = _Totals()
    for part in range(parts):
        _audit_part(sources, engines, gateways, totals, part=part, parts=parts, until_ns=now_ns)
    differences = [one for kind, kept in totals.kept.items() if kind != _UNANSWERED for one in kept]
    unanswered = totals.counts.get(_UNANSWERED, 0)
    return AuditResult(
        gateways=[path.name for path in gateways],
        engines=[path.name for path in engines],
        commands=totals.commands,
        commands_matched=totals.commands_matched,
        commands_later=totals.commands_later,
        messages=totals.messages,
        matched=totals.matched,
        refused=totals.refused,
        resent=totals.resent,
        unanswered=unanswered,
        differences=differences,
        difference_count=sum(totals.counts.values()) - unanswered,
        unanswered_first=totals.kept.get(_UNANSWERED, []),
        passes=parts,
        elapsed_s=round(time.monotonic() - started, 3),
    )


def _audit_part(
    sources: Mapping[str, Path],
    engines: Sequence[Path],
    gateways: Sequence[Path],
    totals: _Totals,
    *,
    part: int,
    parts: int,
    until_ns: int,
) -> None:
    commands = CommandIndex()
    for journal in engines:
        for record in JournalReader(journal):
            if record.key != LEDGER and sources.get(record.key) == journal:
                commands.add(record, part=part, parts=parts)
    accounts: dict[int, AccountAudit] = {}
    for gateway, record in _messages(gateways, part=part, parts=parts, until_ns=until_ns):
        number = int(record.key)
        account = accounts.get(number)
        if account is None:
            account = accounts[number] = AccountAudit(number, commands)
        account.take(gateway, record, is_inbound=record.flags == INBOUND)
    for finding in commands.differences:
        totals.add(finding)
    for account in accounts.values():
        for finding in account.finish():
            totals.add(finding)
        totals.messages += account.messages
        totals.matched += account.matched
        totals.refused += account.refused
        totals.resent += account.resent
    for finding in commands.unmatched(until_ns=until_ns):
        totals.add(finding)
    totals.commands += len(commands)
    totals.commands_matched += commands.matched
    totals.commands_later += commands.later(after_ns=until_ns)


def _messages(
    gateways: Sequence[Path], *, part: int, parts: int, until_ns: int
) -> Iterator[tuple[str, Record]]:
    """Yield the records of some accounts from all gateways, in the order of time."""

    def of(path: Path) -> Iterator[tuple[str, Record]]:
        for record in JournalReader(path):
            key = record.key
            if record.ts_ns <= until_ns and key.isdigit() and int(key) % parts == part:
                yield path.name, record

    return merge(*(of(path) for path in gateways), key=lambda pair: pair[1].ts_ns)
