"""Quantiles and figures of the bench."""

import pytest

from bench.figures import Figure, quantile
from bench.rounds import Rounds


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_quantile_is_the_nearest_rank(values: list[float], fraction: float, expected: float) -> None:
    assert quantile(values, fraction) == expected


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="at least one round"):
        Figure.of([])


def test_rounds_become_median_least_and_greatest() -> None:
    rounds = Rounds()
    for value in (5.0, 1.0, 3.0):
        rounds.add(a=value, b=value * 2)

    assert rounds.figures() == {"a": Figure(3.0, 1.0, 5.0), "b": Figure(6.0, 2.0, 10.0)}
