"""The score is the design's formula, checked against its reference cases and its own promises."""

import math

import pytest
from edgewise.domain.score import GIB, Factors, load_factor, performance_factor, thermal_factor
from hypothesis import given
from hypothesis import strategies as st

CASES = [
    ("idle and fast", 95, 80, 12000, 6, 45, 22.687, 1.4, 31.761),
    ("busy and fast", 10, 60, 12000, 4, 70, 3.158, 1.4, 4.421),
    ("idle and slow", 90, 50, 1500, 1, 55, 18.75, 0.25, 4.688),
    ("low memory", 80, 5, 9000, 0.3, 60, 4.211, 0.93, 3.916),
    ("critical", 95, 80, 12000, 6, 101, 22.687, 1.4, 0),
    ("unknown heat", 95, 80, 12000, 6, None, 22.687, 1.4, 31.761),
    ("half throttled", 95, 80, 12000, 6, 77.5, 22.687, 1.4, 15.881),
    ("no free CPU", 0, 80, 12000, 6, 45, 0, 1.4, 0),
]


@pytest.mark.parametrize(("name", "c", "m", "e", "r", "t", "load", "performance", "score"), CASES)
def test_reference_cases(
    name: str, c: float, m: float, e: float, r: float, t: float | None, load: float, performance: float, score: float
) -> None:
    factors = Factors(load_factor(c, m), performance_factor(e, r * GIB), thermal_factor(t, 70, 85))
    assert round(factors.load, 3) == load, name
    assert round(factors.performance, 3) == performance, name
    assert round(factors.score, 3) == score, name


percent = st.floats(0, 100)


@given(percent, percent, st.floats(1, 100))
def test_load_is_proportional(cpu: float, memory: float, share: float) -> None:
    """Sharing a device k ways divides its load factor by k: what makes a burst spread by score."""
    assert math.isclose(load_factor(cpu / share, memory / share) * share, load_factor(cpu, memory), abs_tol=1e-9)


@given(percent, percent, percent)
def test_more_free_is_never_worse(cpu: float, memory: float, more: float) -> None:
    assert load_factor(max(cpu, more), memory) >= load_factor(cpu, memory)
    assert load_factor(cpu, max(memory, more)) >= load_factor(cpu, memory)


@given(st.floats(-50, 200), st.integers(1, 149))
def test_heat_only_takes_away(celsius: float, throttle: int) -> None:
    factor = thermal_factor(celsius, throttle, throttle + 1)
    assert 0 <= factor <= 1
    assert (factor == 1) == (celsius <= throttle)
    assert (factor == 0) == (celsius >= throttle + 1)
