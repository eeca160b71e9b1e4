"""The clairvoyant optimum, against every possible assignment."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.optimum import optimum


@pytest.mark.parametrize(
    ("jobs", "seconds", "shares", "makespan"),
    [
        (60, {"one": 1.0, "two": 2.0, "four": 4.0}, {"one": 35, "two": 17, "four": 8}, 35.0),
        (7, {"one": 1.0, "two": 2.0, "four": 4.0}, {"one": 4, "two": 2, "four": 1}, 4.0),
        (1, {"slow": 10.0, "fast": 1.0}, {"slow": 0, "fast": 1}, 1.0),
        (0, {"only": 3.0}, {"only": 0}, 0.0),
    ],
)
def test_known_cases(jobs: int, seconds: dict[str, float], shares: dict[str, int], makespan: float) -> None:
    best = optimum(jobs, seconds)

    assert (best.jobs, best.makespan_seconds) == (shares, makespan)


@given(st.integers(0, 12), st.lists(st.integers(1, 50), min_size=1, max_size=3))
def test_no_assignment_is_better(jobs: int, times: list[int]) -> None:
    seconds = {str(index): float(time) for index, time in enumerate(times)}

    best = optimum(jobs, seconds)

    every = (shares for shares in product(range(jobs + 1), repeat=len(times)) if sum(shares) == jobs)
    least = min(max(count * time for count, time in zip(shares, times, strict=True)) for shares in every)
    assert best.makespan_seconds == least
    assert max(best.jobs[name] * seconds[name] for name in seconds) == least


@pytest.mark.parametrize("seconds", [{}, {"stuck": 0.0}, {"stuck": -1.0}])
def test_devices_without_speed_are_refused(seconds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        optimum(1, seconds)
