"""What a torture run has to show, as lines; the last of them says whether it was clean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ops.terminal import table
from ops.torture import Torture
from ops.torture_cast import GATEWAYS, SHARDS, SYMBOLS, Cast
from ops.torture_chaos import Outage
from ops.torture_plan import FAILOVER, KILL, PAUSE, RESTART

_PAST = {KILL: "killed", PAUSE: "paused", RESTART: "restarted", FAILOVER: "handed over"}
_HEADER = ("recovery, s", "times", "serves p50", "max", "trading p50", "max")


def summary(torture: Torture) -> list[str]:
    """Return all that a run has to show."""
    options = torture.options
    standbys = "with" if options.standby else "without"
    lines = [
        f"seed {options.seed}: {options.seconds:g} s, {options.clients} clients,"
        f" {len(SYMBOLS)} symbols, {GATEWAYS} gateways, {SHARDS} shards {standbys} standbys"
    ]
    if torture.cast is not None:
        lines += _done(torture.cast)
    return [*lines, *(f"FAILED: {one}" for one in torture.failures), verdict(torture)]


def verdict(torture: Torture) -> str:
    """Return the last line."""
    outages = torture.cast.chaos.outages if torture.cast is not None else []
    traders = torture.cast.traders if torture.cast is not None else []
    kills = sum(1 for one in outages if one.action == KILL)
    orders = sum(one.record.answers.get("D", 0) for one in traders)
    executions = sum(len(one.record.exec_ids) for one in traders)
    fills = sum(len(one.record.fills) for one in traders)
    count = len(torture.failures)
    found = f"{count} failures" if count else "clean"
    where = f", {torture.kept} is kept" if torture.kept is not None else ""
    return (
        f"torture: {found}: {kills} kills, {orders:,} orders, {executions:,} reports,"
        f" {fills:,} of them fills, seed {torture.options.seed}{where}"
    )


def _done(cast: Cast) -> list[str]:
    """Return what was done, and how the venue recovered."""
    lines = _recovery(cast.chaos.outages)
    if cast.chaos.torn:
        lines.append(f"Redis' file torn at {cast.chaos.torn} of its kills")
    departures = _sum(one.departures for one in cast.clients)
    lines.append(f"clients left and came back: {_counts(departures)}")
    answers = _sum(one.record.answers for one in cast.traders)
    unavailable = sum(len(one.record.unavailable) for one in cast.traders)
    lines.append(
        f"answered: {_counts(answers)}; of these {unavailable:,} with 380=4;"
        f" deposits {len(cast.depositor.made)},"
        f" phases changed {sum(map(len, cast.phases.made.values()))}"
    )
    lines.append(
        f"reports copied {cast.copier.copied:,},"
        f" messages of market data {sum(one.messages for one in cast.watchers):,}"
    )
    return lines


def _recovery(outages: Iterable[Outage]) -> list[str]:
    by_kind: dict[str, list[Outage]] = {}
    for one in outages:
        what = _PAST[one.action] if one.action == FAILOVER else f"{one.kind} {_PAST[one.action]}"
        by_kind.setdefault(what, []).append(one)
    rows = [
        [
            *(what, str(len(of))),
            *_quantiles([one.back_s for one in of]),
            *_quantiles([one.trading_s for one in of]),
        ]
        for what, of in sorted(by_kind.items())
    ]
    return table(_HEADER, rows)


def _quantiles(times_s: list[float | None]) -> list[str]:
    known = sorted(one for one in times_s if one is not None)
    if not known:
        return ["-", "-"]
    return [f"{known[(len(known) - 1) // 2]:.1f}", f"{known[-1]:.1f}"]


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
