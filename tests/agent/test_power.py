"""A real power cut: an ext4 image of its own, shut down so that nothing that was not synced survives."""

import fcntl
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from edgewise_agent.collect import collect_logs
from edgewise_agent.files import sync_folder
from edgewise_agent.journal import Finish
from edgewise_agent.measure import Measurer
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import VolumeTable
from edgewise_agent.wire import VolumeState

from tests.agent.kubelet import Pod
from tests.agent.test_table import publish, restarted, states

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written"""


class Disk:
    """A filesystem whose power can be cut."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(64 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", image], check=True, timeout=60)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.folder], check=True, timeout=60)

    def unmount(self) -> None:
        subprocess.run(["umount", self.folder], check=True, timeout=60)

    def cut_power_and_return(self) -> None:
        """Lose what is not on the disk, then start again."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)
        self.unmount()
        self.mount()


@pytest.fixture
def disk(device: Path) -> Iterator[Disk]:
    """A mounted image; this needs root, as all of the fleet does."""
    made = Disk(device / "disk.img", device / "disk")
    yield made
    made.unmount()


@pytest.fixture
def on_disk(settings: Settings, disk: Disk) -> Settings:
    (disk.folder / "pods").mkdir()
    os.sync()
    return replace(settings, kubelet_root=disk.folder)


@pytest.fixture
def pod(on_disk: Settings) -> Pod:
    return Pod(on_disk.kubelet_root)


def fresh(settings: Settings) -> VolumeTable:
    """The table of an agent that ran before this test began: its folders are on the disk."""
    table = restarted(settings)
    os.sync()
    return table


def test_what_publish_answered_for_survives(disk: Disk, on_disk: Settings, pod: Pod) -> None:
    table = fresh(on_disk)
    publish(table, pod)
    written = pod.record.read_text()
    disk.cut_power_and_return()
    assert states(restarted(on_disk)) == [VolumeState.LIVE]
    assert pod.target.is_dir()
    assert pod.record.read_text() == written, "kubelet does not sync its record, the agent does"


def test_the_periodic_sync_saves_what_the_app_did_not(disk: Disk, on_disk: Settings, pod: Pod) -> None:
    table = fresh(on_disk)
    publish(table, pod)
    (pod.target / "day").mkdir()
    (pod.target / "day/synced.csv").write_text("photo,x\n")
    Measurer(on_disk, table).measure_all()
    (pod.target / "day/lost.csv").write_text("photo,y\n")
    disk.cut_power_and_return()
    assert (pod.target / "day/synced.csv").read_text() == "photo,x\n"
    lost = pod.target / "day/lost.csv"
    assert not lost.exists() or lost.read_text() == "", "else this test does not cut the power"
    again = restarted(on_disk)
    again.unpublish(pod.volume_id, pod.target)
    assert (again.spool.files(pod.volume_id) / "day/synced.csv").read_text() == "photo,x\n"


def test_what_unpublish_answered_for_is_in_the_spool(disk: Disk, on_disk: Settings, pod: Pod) -> None:
    table = fresh(on_disk)
    publish(table, pod, faces_csv="photo,x\n")
    Measurer(on_disk, table).measure_all()
    table.unpublish(pod.volume_id, pod.target)
    disk.cut_power_and_return()
    again = restarted(on_disk)
    assert states(again) == [VolumeState.SPOOLED]
    assert (again.spool.files(pod.volume_id) / "faces.csv").read_text() == "photo,x\n"
    assert not pod.target.exists()


def test_logs_that_were_kept_survive_and_what_was_cut_off_is_no_log(
    disk: Disk, on_disk: Settings, pod: Pod, settings: Settings
) -> None:
    table = fresh(on_disk)
    publish(table, pod, faces_csv="photo,x\n")
    pod.say(settings.pod_logs, "working\n")
    table.unpublish(pod.volume_id, pod.target)
    (table.spool.logs(pod.volume_id) / "app/.0.log.new").write_text("half")
    disk.cut_power_and_return()
    again = restarted(on_disk)
    assert states(again) == [VolumeState.SPOOLED]
    assert (again.spool.logs(pod.volume_id) / "app/0.log").read_text() == "working\n"
    assert [file.name for file in collect_logs(again.spool.logs(pod.volume_id))] == ["app/0.log"]


def test_what_was_acknowledged_is_not_sent_again(disk: Disk, on_disk: Settings, pod: Pod) -> None:
    table = fresh(on_disk)
    publish(table, pod, faces_csv="photo,x\n")
    table.unpublish(pod.volume_id, pod.target)
    table.finish(table.waiting()[0], Finish(state=VolumeState.DONE, bytes_=8))
    table.spool.sweep()
    disk.cut_power_and_return()
    again = restarted(on_disk)
    assert states(again) == [VolumeState.DONE]
    assert again.waiting() == []


def test_a_record_that_was_lost_all_the_same_is_restored(
    disk: Disk, on_disk: Settings, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a kubelet that writes it again later: the names are on the disk, the content is not."""
    table = fresh(on_disk)
    with monkeypatch.context() as patch:
        patch.setattr("edgewise_agent.volumes.kubelet.sync_record", lambda target: sync_folder(target.parent))
        publish(table, pod)
    written = pod.record.read_text()
    disk.cut_power_and_return()
    assert pod.record.read_bytes() == b"", "kubelet's record is lost if nobody syncs it"
    restarted(on_disk).reconcile(None)
    assert json.loads(pod.record.read_text()) == json.loads(written)
