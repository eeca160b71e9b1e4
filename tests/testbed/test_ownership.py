"""Whose fleet it is: a second checkout is refused while the first one's runs, and sweeps what was left for dead."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import FleetError, ownership, paths, processes, wait_until


@pytest.fixture(autouse=True)
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with the fleet of another checkout, of which nothing runs yet; the other checkout."""
    monkeypatch.setattr(paths, "OWNER", tmp_path / "owner")
    monkeypatch.setattr(paths, "PROCESSES", tmp_path / "processes")
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path / "mine")
    monkeypatch.setattr(paths, "DISKS", tmp_path / "mine" / ".testbed" / "disks")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    paths.OWNER.write_text(str(theirs))
    yield theirs
    for process in processes.recorded():
        process.end(1, signal.SIGKILL)


def run_something(log: Path) -> processes.Process:
    processes.start("etcd", ["sleep", "60"], log=log)
    wait_until(lambda: processes.running("etcd"), "etcd runs", seconds=5)
    process = processes.find("etcd")
    assert process is not None
    return process


def test_a_fleet_that_runs_is_its_owners(other: Path, tmp_path: Path) -> None:
    run_something(tmp_path / "log")
    with pytest.raises(FleetError, match=rf"belongs to {other}: end it with {other}/.testbed/bin/fleet down"):
        ownership.require()


def test_a_fleet_that_was_left_for_dead_is_nobodys(tmp_path: Path) -> None:
    run_something(tmp_path / "log").send(signal.SIGKILL)
    wait_until(lambda: not processes.running("etcd"), "etcd has ended", seconds=5)
    ownership.require()


def test_a_fleet_whose_checkout_is_gone_is_nobodys(other: Path, tmp_path: Path) -> None:
    run_something(tmp_path / "log")
    other.rmdir()
    ownership.require()


def test_the_disks_of_both_are_swept(other: Path) -> None:
    images = [folder / ".testbed" / "disks" / "edge-1.img" for folder in (paths.CHECKOUT, other)]
    for image in images:
        image.parent.mkdir(parents=True)
        image.touch()
    assert ownership.disks() == images
    paths.OWNER.unlink()
    assert ownership.disks() == images[:1]
