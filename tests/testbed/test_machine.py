"""What a machine lacks is said at once, in one line with the remedy."""

import os
import platform
from pathlib import Path

import pytest

from testbed import FleetError, machine, paths
from testbed.settings import GIB


@pytest.fixture(autouse=True)
def fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks nothing, whatever this one is."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "free_bytes", lambda folder: 100 * GIB)
    monkeypatch.setattr(paths, "CHECKOUT", Path("/home/ann/edgewise"))
    monkeypatch.setattr(paths, "cache", lambda: Path("/home/ann/.cache/edgewise"))


def test_a_fitting_machine_is_taken() -> None:
    machine.require()


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(FleetError, match="needs Linux, this is Darwin: use `make kind-up`"):
        machine.require()


def test_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FleetError, match=r"needs root .* with sudo"):
        machine.require()


def test_a_small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda folder: 11 * GIB)
    with pytest.raises(FleetError, match=r"has 11\.0 GiB free, the fleet needs 12"):
        machine.require()


def test_a_checkout_that_devices_could_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CHECKOUT", Path("/srv/edgewise"))
    with pytest.raises(FleetError, match="can't be under"):
        machine.require()


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert machine.free_bytes(tmp_path / "a" / "b") > 0
