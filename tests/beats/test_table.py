"""The newest beat of each device: ages count from its arrival, late and repeated beats change nothing."""

from datetime import UTC, datetime, timedelta

from edgewise.beats.table import BeatTable
from edgewise_agent import wire

START = datetime(2026, 3, 1, tzinfo=UTC)


def beat(sequence: int, boot: str = "first", cpu: float = 50) -> wire.Beat:
    return wire.Beat(
        node="edge-1",
        boot=boot,
        sequence=sequence,
        sampled_at=START - timedelta(hours=1),  # the device's clock is an hour behind: no matter
        interval_seconds=10,
        metrics=wire.Metrics(
            cpu_free_percent=cpu, memory_available_percent=50, memory_free_bytes=1, disk_free_bytes=1, celsius=None
        ),
        spool=wire.Spool(bytes_=0, limit_bytes=1),
    )


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


def free(table: BeatTable) -> float:
    view = table.view("edge-1")
    assert view is not None
    return view.metrics.cpu_free_percent


def test_age_counts_from_arrival() -> None:
    clock = Clock()
    table = BeatTable(clock, clock.wall)
    assert table.view("edge-1") is None
    table.take(beat(1))
    clock.seconds += 7
    view = table.view("edge-1")
    assert view is not None
    assert view.age == timedelta(seconds=7)
    assert view.received_at == START + timedelta(seconds=100)


def test_a_beat_that_was_overtaken_is_dropped() -> None:
    table = BeatTable()
    table.take(beat(2, cpu=20))
    table.take(beat(1, cpu=90))
    assert free(table) == 20


def test_a_restarted_agent_counts_anew() -> None:
    table = BeatTable()
    table.take(beat(9, cpu=20))
    table.take(beat(1, boot="second", cpu=90))
    assert free(table) == 90


def test_a_run_of_beats_ends_with_a_gap_and_with_the_agents_process() -> None:
    clock = Clock()
    table = BeatTable(clock, clock.wall)

    def since(sequence: int, boot: str = "first") -> float:
        table.take(beat(sequence, boot))
        view = table.view("edge-1")
        assert view is not None
        assert view.reporting_since is not None
        return (view.reporting_since - START).total_seconds()

    assert since(1) == 100
    clock.seconds = 119
    assert since(2) == 100, "one beat that is late"
    clock.seconds = 139
    assert since(3) == 139, "two that are missing"
    clock.seconds = 140
    assert since(1, "second") == 140, "another process: the device may have booted"
