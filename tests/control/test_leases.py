"""How old a Lease is: by the device's own clock as its beats have told it, or by how long it was seen unchanged."""

from datetime import UTC, datetime, timedelta

import pytest
from edgewise.control.leases import LeaseTable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DURATION = timedelta(seconds=40)


class Clock:
    """A clock that stands still until it is moved."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> LeaseTable:
    return LeaseTable(clock, clock.wall)


def age(table: LeaseTable, offset: timedelta | None) -> float:
    view = table.view("edge-1", offset)
    assert view is not None
    assert view.renewal == timedelta(seconds=10)
    return view.age.total_seconds()


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(hours=1), timedelta(hours=-1)])
def test_a_wrong_clock_changes_nothing_once_its_offset_is_known(table: LeaseTable, wrong: timedelta) -> None:
    table.take("edge-1", NOW - timedelta(seconds=7) + wrong, DURATION)
    assert age(table, -wrong) == 7


def test_without_an_offset_only_what_was_seen_counts(table: LeaseTable, clock: Clock) -> None:
    long_ago = NOW - timedelta(hours=1)
    table.take("edge-1", long_ago, DURATION)
    assert age(table, None) == 0
    clock.seconds = 13
    table.take("edge-1", long_ago, DURATION)
    assert age(table, None) == 13
    table.take("edge-1", long_ago + timedelta(seconds=10), DURATION)
    assert age(table, None) == 0, "it was renewed"


@pytest.mark.parametrize("offset", [None, timedelta(0)])
def test_a_lease_that_can_not_be_read_does_not_age(table: LeaseTable, clock: Clock, offset: timedelta | None) -> None:
    """While the API server is away no kubelet can renew its Lease, so nothing of it speaks of death."""
    table.take("edge-1", NOW - timedelta(seconds=7), DURATION)
    before = age(table, offset)
    clock.seconds = 40
    assert age(table, offset) == before
    table.take("edge-1", NOW - timedelta(seconds=7), DURATION)
    assert age(table, offset) >= 40


def test_a_missing_lease_ages_as_an_unchanged_one_does(table: LeaseTable, clock: Clock) -> None:
    """A kubelet makes its Lease some ten seconds after its node: a device that is lost before then never has one."""
    offset = timedelta(0)
    table.take("edge-1", None, DURATION)
    assert age(table, offset) == 0
    clock.seconds = 13
    table.take("edge-1", None, DURATION)
    assert age(table, offset) == 13
    table.take("edge-1", NOW + timedelta(seconds=12), DURATION)
    assert age(table, offset) == 1, "it has one now"


def test_what_is_not_silent_is_not_kept(table: LeaseTable) -> None:
    table.take("edge-1", NOW, DURATION)
    table.forget_all_but({"edge-2"})
    assert table.view("edge-1", None) is None
