"""The bandwidth cap: a token bucket whose clock is turned by hand."""

from collections.abc import Iterator

import pytest
from edgewise_agent.uplink.pace import LEAST_BYTES_PER_SECOND, MOST_PIECE_BYTES, Pace
from hypothesis import given
from hypothesis import strategies as st


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    made = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewise_agent.uplink.pace.time", made)
        yield made


@given(
    rate=st.integers(LEAST_BYTES_PER_SECOND, 2**30),
    lengths=st.lists(st.integers(0, 300_000), max_size=8),
    pauses=st.lists(st.floats(0, 10), min_size=8, max_size=8),
)
def test_no_more_leaves_than_the_rate_and_half_a_second(
    clock: Clock, rate: int, lengths: list[int], pauses: list[float]
) -> None:
    pace, started = Pace(rate), clock.now
    left = 0
    for length, pause in zip(lengths, pauses, strict=False):
        content = bytes(length)
        sent = b""
        for piece in pace.pieces([content[:10], content[10:]]):
            sent += piece
            left += len(piece)
            assert left <= rate * (clock.now - started + 0.5) + 1, "faster than allowed"
        assert sent == content
        clock.now += pause


def test_each_wait_is_short(clock: Clock) -> None:
    clock.slept.clear()
    for _ in Pace(LEAST_BYTES_PER_SECOND).pieces([bytes(10_000)]):
        pass
    assert max(clock.slept) <= 0.5
    assert sum(clock.slept) == pytest.approx(10_000 / LEAST_BYTES_PER_SECOND - 0.5)


def test_no_cap_waits_for_nothing(clock: Clock) -> None:
    clock.slept.clear()
    pieces = list(Pace(0).pieces([bytes(MOST_PIECE_BYTES + 1), b"x"]))
    assert [len(piece) for piece in pieces] == [MOST_PIECE_BYTES, 1, 1]
    assert clock.slept == []
