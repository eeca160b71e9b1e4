"""How much a run does."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of a run.

    Attributes:
        rounds: how often everything is measured.
        devices: simulated devices.
        backlog: jobs that wait at once.
        probes: single jobs, one at a time, whose binding is timed, of each kind in a round.
        batch: CPU-bound jobs on the real devices.
        idle_seconds: how long idle devices are watched in a round.
    """

    rounds: int = 3
    devices: int = 100
    backlog: int = 1000
    probes: int = 100
    batch: int = 60
    idle_seconds: int = 120


QUICK: Final = Scale(rounds=1, devices=20, backlog=200, probes=20, batch=15, idle_seconds=30)
"""To see whether all works; its figures are not comparable."""
