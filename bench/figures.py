"""Figures of a run: quantiles within a round, and the median of the rounds with the least and the greatest."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self


@dataclass(frozen=True, slots=True)
class Figure:
    """What the rounds gave."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The figure of one value a round. Raises ValueError without any."""
        rounds = list(values)
        if not rounds:
            raise ValueError("a figure needs at least one round")
        return cls(statistics.median(rounds), min(rounds), max(rounds))


def quantile(values: Sequence[float], fraction: float) -> float:
    """The smallest of `values` that at least `fraction` (0 to 1) of them do not exceed: the nearest rank.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values, no quantile")
    return sorted(values)[max(0, ceil(fraction * len(values)) - 1)]
