"""The seed score: how good a device is for one more job, from what its agent measured.

Owns the formula of the design (load x performance x thermal) and nothing else. Policies that rank devices are in
policies.py; which devices may be ranked at all is eligibility.py's business.
"""

from dataclasses import dataclass

GIB = 2**30

MAX_USEFUL_FREE_GIB = 2.0
"""Free memory beyond this earns no more performance: the jobs are small."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The three factors of a score, each 0 or more; `thermal` at most 1."""

    load: float
    performance: float
    thermal: float

    @property
    def score(self) -> float:
        """The product of the factors. Higher is better; 0 means that the device can take no work."""
        return self.load * self.performance * self.thermal


def load_factor(cpu_free_percent: float, memory_available_percent: float) -> float:
    """The weighted harmonic mean 1/(3/c + 1/m) of free CPU and available memory, both in percent (0 to 100).

    0 when either is 0. CPU weighs three times as much as memory.
    """
    if cpu_free_percent <= 0 or memory_available_percent <= 0:
        return 0.0
    return 1 / (3 / cpu_free_percent + 1 / memory_available_percent)


def performance_factor(events_per_second: float, free_bytes: float) -> float:
    """`e/10000 + min(2, r)/10` of the sysbench result e (events per second) and r, the free memory in GiB."""
    return events_per_second / 10_000 + min(MAX_USEFUL_FREE_GIB, max(0.0, free_bytes / GIB)) / 10


def thermal_factor(celsius: float | None, throttle_celsius: float, critical_celsius: float) -> float:
    """1 up to the throttle temperature, then down linearly to 0 at the critical one. Unknown temperature gives 1."""
    if celsius is None or celsius <= throttle_celsius:
        return 1.0
    if celsius >= critical_celsius:
        return 0.0
    return (critical_celsius - celsius) / (critical_celsius - throttle_celsius)
