"""Live volumes are measured, told when over their limit, and forced to disk now and then."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from edgewise_agent import measure as module
from edgewise_agent.measure import Measurer
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import VolumeTable
from edgewise_agent.wire import VolumeReport

from tests.agent.kubelet import Pod, outputs
from tests.agent.test_table import publish


def only(table: VolumeTable) -> VolumeReport:
    (report,) = table.reports()
    return report


def test_size_and_limit(settings: Settings) -> None:
    changes: list[str] = []
    table = VolumeTable(settings, lambda: changes.append("changed"))
    pod = Pod(settings.kubelet_root, asked=outputs(size_limit_bytes=100))
    publish(table, pod, a_csv="x" * 60)
    (pod.target / "inner").mkdir()
    (pod.target / "inner/b.csv").write_text("x" * 40)
    measurer = Measurer(settings, table)
    measurer.measure_all()
    assert (only(table).bytes_, only(table).over_limit) == (100, False)

    changes.clear()
    pod.write(c_csv="x")
    measurer.measure_all()
    assert (only(table).bytes_, only(table).over_limit) == (101, True)
    assert only(table).message == (
        "101 bytes written, sizeLimit is 100: write less or raise the app's outputs.sizeLimit"
    )
    assert changes == ["changed"], "the operator is told at once"
    measurer.measure_all()
    assert changes == ["changed"]

    (pod.target / "c.csv").unlink()
    measurer.measure_all()
    assert (only(table).over_limit, only(table).message) == (False, "")


def test_free_space_floor(settings: Settings, table: VolumeTable) -> None:
    publish(table, Pod(settings.kubelet_root))
    Measurer(replace(settings, free_space_floor_bytes=2**60), table).measure_all()
    assert (only(table).over_limit, only(table).no_room) == (False, True)
    assert "its floor is 1152921504606846976: free some space on it" in only(table).message
    Measurer(settings, table).measure_all()
    assert (only(table).no_room, only(table).message) == (False, "")


def test_an_idle_bundle_that_cannot_be_removed_keeps_nothing_from_being_measured(
    settings: Settings, table: VolumeTable
) -> None:
    publish(table, Pod(settings.kubelet_root), a_csv="x")

    def give_way() -> None:
        raise OSError(errno.EIO, "Input/output error")

    Measurer(settings, table, give_way).measure_all()
    assert only(table).bytes_ == 1


def test_too_many_files_to_look_at(settings: Settings, table: VolumeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 10)
    publish(table, Pod(settings.kubelet_root), **{f"f{number}_csv": "" for number in range(11)})
    Measurer(settings, table).measure_all()
    assert only(table).over_limit
    assert "more than 10 files" in only(table).message


def test_what_changed_is_forced_to_disk_and_nothing_else(
    settings: Settings, table: VolumeTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr("edgewise_agent.measure.os.fsync", fsync)
    monkeypatch.setattr(module, "_SLACK_NS", 0)
    now = 100.0
    monkeypatch.setattr("edgewise_agent.measure.time.monotonic", lambda: now)
    pod = Pod(settings.kubelet_root)
    publish(table, pod, a_csv="1", b_csv="2")
    (pod.target / "link.csv").symlink_to(tmp_path)
    os.mkfifo(pod.target / "fifo.csv")
    synced.clear()
    measurer = Measurer(settings, table)
    measurer.measure_all()
    assert sorted(synced) == [str(pod.target), str(pod.target / "a.csv"), str(pod.target / "b.csv")]

    synced.clear()
    pod.write(a_csv="11")
    now += settings.sync_seconds - 1
    measurer.measure_all()
    assert synced == [], "not due yet"
    now += 1
    measurer.measure_all()
    assert sorted(synced) == [str(pod.target), str(pod.target / "a.csv")]
    synced.clear()
    now += settings.sync_seconds
    measurer.measure_all()
    assert synced == []


def test_volumes_that_vanish_meanwhile_are_passed_over(settings: Settings, table: VolumeTable) -> None:
    first, second = Pod(settings.kubelet_root, 1), Pod(settings.kubelet_root, 2)
    publish(table, first)
    publish(table, second, a_csv="123")
    first.target.rmdir()
    Measurer(settings, table).measure_all()
    assert [report.bytes_ for report in table.reports()] == [0, 3]


def test_the_spool_is_measured_after_the_last_write(settings: Settings, table: VolumeTable) -> None:
    pod = Pod(settings.kubelet_root)
    publish(table, pod, a_csv="1")
    measurer = Measurer(settings, table)
    measurer.measure_all()
    pod.write(b_csv="234")
    table.unpublish(pod.volume_id, pod.target)
    measurer.measure_all()
    assert table.usage().bytes_ == 4
    assert table.unmeasured() == []
