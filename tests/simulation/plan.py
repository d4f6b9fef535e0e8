"""What a seed decides: the shape of a venue, how bad its network is, and what happens when.

Not every world has everything (swarm testing): a fault that all worlds had would hide what needs
its absence, and small worlds are many.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


@dataclass(frozen=True)
class Happening:
    """Something that goes wrong.

    Attributes:
        at_s: virtual seconds after trading began.
        kind: see nemesis.py.
        target: name of a process, or of a client; empty where there is none.
        for_s: how long it lasts.
        number: whatever the kind makes of it.
    """

    at_s: float
    kind: str
    target: str = ""
    for_s: float = 0.0
    number: int = 0


@dataclass(frozen=True)
class Plan:
    """One world.

    Attributes:
        seed: which.
        shards: symbols of each shard.
        standby: whether each shard has two engines.
        gateways, clients: how many.
        messages: that each client sends.
        pause_s: between its bursts, at most.
        writer, marketdata: whether they run.
        delay_max_s, slow_probability: see Network.
        lose_probability: of a request to Redis whose connection ends before or after its effect.
        journal_fsync: see EngineSettings.
        snapshot_interval_s: likewise, but shorter than anybody may set.
        kills_at_request: process → number of the request to Redis at which it is killed.
        small_portions: whether inputs do little of what is due; see production.py.
        graces_s: client → seconds from when it is gone until its orders are canceled.
        happenings: in order of time.
    """

    seed: int
    shards: tuple[tuple[str, ...], ...]
    standby: bool
    gateways: int
    clients: int
    messages: int
    pause_s: float
    writer: bool
    marketdata: bool
    delay_max_s: float
    slow_probability: float
    lose_probability: float
    journal_fsync: str
    snapshot_interval_s: float
    small_portions: bool
    graces_s: dict[int, int]
    kills_at_request: dict[str, int] = field(default_factory=dict)
    happenings: tuple[Happening, ...] = ()

    @property
    def engines(self) -> list[str]:
        """Return the names of the engines' processes."""
        names = []
        for shard in range(1, len(self.shards) + 1):
            names.append(f"engine-{shard}")
            if self.standby:
                names.append(f"engine-{shard}-standby")
        return names

    @property
    def processes(self) -> list[str]:
        """Return the names of all processes."""
        names = [*self.engines, *(f"gateway-{n}" for n in range(1, self.gateways + 1))]
        names += ["writer"] * self.writer + ["marketdata"] * self.marketdata
        return names


def make_plan(seed: int) -> Plan:
    """Return what a seed decides."""
    choose = random.Random(f"plan {seed}")
    symbols = SYMBOLS[: choose.choice((1, 2, 2, 3))]
    two = len(symbols) > 1 and choose.random() < 0.3
    shards = (symbols[:1], symbols[1:]) if two else (symbols,)
    calm = choose.random() < 0.1
    shape = Plan(
        seed=seed,
        shards=shards,
        standby=choose.random() < 0.5,
        gateways=choose.choice((1, 2)),
        clients=choose.choice((2, 2, 3)),
        messages=choose.choice((6, 10, 16, 24)),
        pause_s=choose.choice((0.02, 0.1, 0.3, 0.3)),
        writer=choose.random() < 0.5,
        marketdata=choose.random() < 0.35,
        delay_max_s=choose.choice((0.0002, 0.001, 0.01)),
        slow_probability=choose.choice((0, 0, 0.01, 0.05)),
        lose_probability=0 if calm else choose.choice((0, 0.005, 0.03)),
        journal_fsync=choose.choice(("strict", "overlapped")),
        snapshot_interval_s=choose.choice((0.05, 0.2, 1.0)),
        small_portions=choose.random() < 0.5,
        graces_s={1: choose.choice((0, 0, 1))} if choose.random() < 0.6 else {},
    )
    if calm:
        return shape
    span_s = 0.3 + shape.pause_s * shape.messages / 3
    happenings = [
        _happening(choose, shape, span_s) for _ in range(choose.choice((1, 2, 2, 3, 4, 6)))
    ]
    if choose.random() < 0.25:
        # A symbol that gathers orders, and opens with an auction when half of all have come.
        happenings.append(Happening(0.0, "phase", for_s=span_s, number=choose.randrange(3)))
    kills = {name: choose.randint(3, 60) for name in shape.processes if choose.random() < 0.25}
    ordered = tuple(sorted(happenings, key=lambda one: one.at_s))
    return Plan(**{**vars(shape), "happenings": ordered, "kills_at_request": kills})


def _happening(choose: random.Random, shape: Plan, span_s: float) -> Happening:
    at_s, for_s = choose.random() * span_s, choose.choice((0.05, 0.3, 1.0))
    weights = {
        "kill": 6,
        "power": 3,
        "stop": 2,
        "pause": 6,
        "redis": 2,
        "cut": 3,
        "memory": 1,
        "disk": 1,
        "postgres": 1,
        "handover": 2,
        "transfer": 2,
        "phase": 5,
        "client_cut": 2,
        "client_leave": 3,
        "client_abandon": 1,
    }
    kind = choose.choices(list(weights), list(weights.values()))[0]
    target = ""
    if kind == "power":
        target = choose.choice(shape.engines)
    elif kind == "pause" and choose.random() < 0.5:
        # Of interest is one that goes on after its lease has run out, and another has taken over.
        target, for_s = choose.choice(shape.engines), choose.choice((0.5, 0.6, 1.0))
    elif kind in ("kill", "stop", "pause", "cut"):
        target = choose.choice(shape.processes)
    number = choose.randrange(1 << 16)
    return Happening(at_s, kind, target, for_s, number)
