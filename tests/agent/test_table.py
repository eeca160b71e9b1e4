"""Volumes over crashes, power cuts and kubelet's own lapses: what the journal and the spool make of them."""

import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from edgewise_agent.journal import Entry, Finish
from edgewise_agent.settings import MIB, Settings
from edgewise_agent.volumes import table as module
from edgewise_agent.volumes.table import UNKNOWN_KEPT_SECONDS, LivePods, SpoolFull, VolumeTable
from edgewise_agent.wire import VolumeState

from tests.agent.kubelet import Pod


def entry(pod: Pod) -> Entry:
    return Entry(
        volume_id=pod.volume_id,
        target=str(pod.target),
        namespace="demo",
        pod_name=pod.name,
        pod_uid=pod.uid,
        asked=pod.asked,
    )


def publish(table: VolumeTable, pod: Pod, **files: str) -> None:
    pod.prepare()
    table.publish(entry(pod))
    pod.write(**files)


def restarted(settings: Settings) -> VolumeTable:
    """The table as the next process of the agent finds it."""
    table = VolumeTable(settings, lambda: None)
    table.load()
    return table


def states(table: VolumeTable) -> list[VolumeState]:
    return [report.state for report in table.reports()]


@pytest.fixture
def pod(settings: Settings) -> Pod:
    return Pod(settings.kubelet_root)


def test_a_volume_goes_from_pod_to_spool_to_nothing(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod, a_csv="1\n")
    assert pod.target.stat().st_mode & 0o7777 == 0o777
    assert states(table) == [VolumeState.LIVE]
    table.unpublish(pod.volume_id, pod.target)
    assert not pod.target.exists()
    (held,) = table.waiting()
    assert (table.spool.files(pod.volume_id) / "a.csv").read_text() == "1\n"
    table.note_size(held, table.spool.size(pod.volume_id))
    assert table.usage().bytes_ == 2
    table.finish(held, Finish(state=VolumeState.DONE, bytes_=2))
    table.spool.sweep()
    (report,) = table.reports()
    assert (report.state, report.bytes_, report.sent_bytes) == (VolumeState.DONE, 2, 2)
    assert table.usage().bytes_ == 0
    assert list((settings.plugin_dir / "spool").iterdir()) == []


def test_publish_and_unpublish_may_be_repeated(table: VolumeTable, pod: Pod) -> None:
    publish(table, pod, a_csv="1")
    table.publish(entry(pod))
    assert (pod.target / "a.csv").read_text() == "1"
    table.unpublish(pod.volume_id, pod.target)
    table.unpublish(pod.volume_id, pod.target)
    assert states(table) == [VolumeState.SPOOLED]
    assert (table.spool.files(pod.volume_id) / "a.csv").read_text() == "1"


def test_a_volume_published_again_has_its_files_back(table: VolumeTable, pod: Pod) -> None:
    publish(table, pod, a_csv="1")
    table.unpublish(pod.volume_id, pod.target)
    (held,) = table.waiting()
    table.publish(entry(pod))
    assert (pod.target / "a.csv").read_text() == "1"
    assert not table.note_sending(held, 1), "the uploader must let go"
    table.finish(held, Finish(state=VolumeState.DONE))
    table.note_failed(held, "late")
    assert states(table) == [VolumeState.LIVE]
    table.unpublish(pod.volume_id, pod.target)
    assert (table.spool.files(pod.volume_id) / "a.csv").read_text() == "1"


def test_a_finished_volume_published_again_starts_empty(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod, a_csv="1")
    table.unpublish(pod.volume_id, pod.target)
    table.finish(table.waiting()[0], Finish(state=VolumeState.DONE))
    publish(table, pod)
    assert list(pod.target.iterdir()) == []
    assert states(restarted(settings)) == [VolumeState.LIVE]


def test_unpublish_without_publish(table: VolumeTable, pod: Pod) -> None:
    table.unpublish(pod.volume_id, pod.target)
    pod.target.mkdir(parents=True)
    table.unpublish(pod.volume_id, pod.target)
    assert not pod.target.exists()
    assert table.reports() == ()


def test_files_that_no_journal_knows_are_kept_aside(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    pod.target.mkdir(parents=True)
    pod.write(a_csv="1")
    table.unpublish(pod.volume_id, pod.target)
    assert not pod.target.exists()
    (kept,) = (settings.plugin_dir / "orphans").iterdir()
    assert (kept / "a.csv").read_text() == "1"
    table.make_room()
    assert kept.exists()
    os.utime(kept, (0, time.time() - UNKNOWN_KEPT_SECONDS - 1))
    table.make_room()
    assert not kept.exists(), "nobody has looked for them for so long"


def test_a_device_under_its_floor_gives_up_what_no_journal_knows(settings: Settings, pod: Pod) -> None:
    table = VolumeTable(replace(settings, free_space_floor_bytes=2**60), lambda: None)
    pod.target.mkdir(parents=True)
    pod.write(a_csv="1")
    table.unpublish(pod.volume_id, pod.target)
    table.make_room()
    assert not list((settings.plugin_dir / "orphans").iterdir())


@pytest.mark.parametrize("crash", ["journal written, no folder yet", "folder there", "written to"])
def test_crash_while_live(table: VolumeTable, pod: Pod, settings: Settings, crash: str) -> None:
    publish(table, pod)
    if crash == "journal written, no folder yet":
        pod.target.rmdir()
    elif crash == "written to":
        pod.write(a_csv="1")
    again = restarted(settings)
    assert states(again) == [VolumeState.LIVE]
    again.publish(entry(pod))
    assert pod.target.is_dir()
    again.unpublish(pod.volume_id, pod.target)
    assert states(again) == [VolumeState.SPOOLED]
    assert [path.name for path in again.spool.files(pod.volume_id).iterdir()] == (
        ["a.csv"] if crash == "written to" else []
    )


def test_a_pod_whose_folder_never_came_still_ends_with_an_empty_upload(table: VolumeTable, pod: Pod) -> None:
    publish(table, pod)
    pod.target.rmdir()
    table.unpublish(pod.volume_id, pod.target)
    assert states(table) == [VolumeState.SPOOLED]
    assert list(table.spool.files(pod.volume_id).iterdir()) == []


def test_crash_between_rename_and_answer(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod, a_csv="123")
    table.unpublish(pod.volume_id, pod.target)
    again = restarted(settings)
    assert states(again) == [VolumeState.SPOOLED]
    assert again.usage().bytes_ == 3
    again.unpublish(pod.volume_id, pod.target)
    assert states(again) == [VolumeState.SPOOLED]


def test_crash_between_acknowledgement_and_removal(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod, a_csv="1")
    table.unpublish(pod.volume_id, pod.target)
    folder = settings.plugin_dir / "spool" / pod.volume_id
    aside = settings.plugin_dir / "kept"
    folder.rename(aside)
    table.finish(table.waiting()[0], Finish(state=VolumeState.DONE, bytes_=1))
    aside.rename(folder)  # as if the power had gone right after the journal's fsync
    again = restarted(settings)
    assert [(report.state, report.sent_bytes) for report in again.reports()] == [(VolumeState.DONE, 1)]
    assert again.waiting() == []
    again.spool.sweep()
    assert list((settings.plugin_dir / "spool").iterdir()) == []


def acknowledged(table: VolumeTable, pod: Pod, **files: str) -> None:
    """The pod has ended, and the gateway has its results; a copy is kept."""
    publish(table, pod, **files)
    table.unpublish(pod.volume_id, pod.target)
    (held,) = table.unmeasured()
    table.note_size(held, table.spool.size(pod.volume_id))
    table.finish(table.waiting()[0], Finish(state=VolumeState.DONE, bytes_=1, kept=True))


def kept(table: VolumeTable) -> list[str]:
    return [held.entry.pod_uid for held in table.kept()]


def test_a_kept_copy_outlives_restarts_and_the_hour_of_reports(
    table: VolumeTable, pod: Pod, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged(table, pod, a_csv="1")
    again = restarted(settings)
    assert (states(again), kept(again), again.waiting()) == ([VolumeState.DONE], [pod.uid], [])
    later = time.monotonic() + module.REMEMBER_SECONDS + 1
    monkeypatch.setattr("edgewise_agent.volumes.table.time.monotonic", lambda: later)
    again.reconcile(None)
    again.spool.sweep()
    assert states(again) == [VolumeState.DONE], "else the operator would take its results for lost"
    assert (again.spool.files(pod.volume_id) / "a.csv").read_text() == "1"
    again.drop_copy(again.kept()[0])
    again.spool.sweep()
    assert (states(again), kept(again)) == ([VolumeState.DONE], [])
    assert list((settings.plugin_dir / "spool").iterdir()) == []
    assert (states(restarted(settings)), kept(restarted(settings))) == ([VolumeState.DONE], [])


def test_a_disk_that_is_too_full_for_the_journal_loses_its_copies_all_the_same(
    table: VolumeTable, pod: Pod, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged(table, pod, a_csv="1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    (held,) = table.kept()
    with monkeypatch.context() as patch:
        patch.setattr("edgewise_agent.journal.write_durably", full)
        with pytest.raises(OSError, match="full"):
            table.drop_copy(held)
    for one in (table, restarted(settings)):
        one.spool.sweep()
        assert (states(one), kept(one)) == ([VolumeState.DONE], [])
    assert list((settings.plugin_dir / "spool").iterdir()) == []


def test_a_copy_can_be_sent_again_over_a_restart(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    acknowledged(table, pod, a_csv="1")
    (held,) = table.kept()
    table.send_again(held)
    table.drop_copy(held)
    assert states(table) == states(restarted(settings)) == [VolumeState.SPOOLED]
    assert (table.spool.files(pod.volume_id) / "a.csv").read_text() == "1"


def test_a_copy_that_was_let_go_is_not_sent_again(table: VolumeTable, pod: Pod) -> None:
    acknowledged(table, pod, a_csv="1")
    (held,) = table.kept()
    table.drop_copy(held)
    table.send_again(held)
    assert states(table) == [VolumeState.DONE]


def test_copies_give_way_oldest_first_to_what_waits(settings: Settings) -> None:
    table = restarted(replace(settings, spool_limit_bytes=MIB))
    first, second, third = (Pod(settings.kubelet_root, number) for number in (1, 2, 3))
    for pod in (first, second):
        acknowledged(table, pod, a_csv="x" * (MIB // 2))
    table.make_room()
    assert kept(table) == [first.uid, second.uid], "they just fit"
    publish(table, third, a_csv="x")
    table.unpublish(third.volume_id, third.target)
    (held,) = table.unmeasured()
    table.note_size(held, 1)
    table.make_room()
    assert kept(table) == [second.uid]
    assert not (settings.plugin_dir / "spool" / first.volume_id).exists()


def test_copies_give_way_under_the_free_space_floor(table: VolumeTable, settings: Settings, pod: Pod) -> None:
    acknowledged(table, pod, a_csv="1")
    short = restarted(replace(settings, free_space_floor_bytes=2**60))
    short.make_room()
    assert kept(short) == []
    assert list((settings.plugin_dir / "spool").iterdir()) == []


def test_a_torn_journal_entry_costs_nothing_else(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod, a_csv="1")
    journal = settings.plugin_dir / "journal"
    (journal / "csi-torn.json").write_bytes(b"")
    (journal / ".csi-half.json.new").write_bytes(b'{"volu')
    (journal / "csi-newer.json").write_text((journal / f"{pod.volume_id}.json").read_text().replace("outputs", "maps"))
    again = restarted(settings)
    assert states(again) == [VolumeState.LIVE]
    assert (journal / "csi-torn.json").exists()


def test_oldest_first_over_a_restart(table: VolumeTable, settings: Settings) -> None:
    pods = [Pod(settings.kubelet_root, number) for number in (3, 1, 2)]
    for pod in pods:
        publish(table, pod)
    for pod in reversed(pods):
        table.unpublish(pod.volume_id, pod.target)
    assert [held.entry.pod_uid for held in restarted(settings).waiting()] == [pod.uid for pod in pods]


def test_a_full_spool_takes_no_new_volume_but_keeps_serving_the_old(settings: Settings) -> None:
    table = restarted(replace(settings, spool_limit_bytes=MIB))
    first, second, third = (Pod(settings.kubelet_root, number) for number in (1, 2, 3))
    publish(table, first, a_csv="x" * MIB)
    publish(table, second)
    table.unpublish(first.volume_id, first.target)
    (held,) = table.unmeasured()
    table.note_size(held, table.spool.size(first.volume_id))
    with pytest.raises(SpoolFull, match="1048576 bytes of results wait to be sent, the limit is 1048576"):
        publish(table, third)
    assert table.usage().full.startswith("1048576 bytes of results wait to be sent"), "beats say why"
    assert not third.target.exists()
    table.publish(entry(second))
    table.publish(entry(first))
    publish(table, third)


def test_no_new_volume_under_the_free_space_floor(settings: Settings, pod: Pod) -> None:
    table = restarted(replace(settings, free_space_floor_bytes=2**60))
    with pytest.raises(SpoolFull, match="until there is room"):
        publish(table, pod)
    assert "the floor is 1152921504606846976" in table.usage().full, "beats say why"
    assert restarted(settings).usage().full == ""


def test_records_that_a_power_cut_emptied_are_restored(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod)
    written = pod.record.read_text()
    for damage in (b"", b"\0\0\0\0", b'{"driverName":', b"{}"):
        pod.record.write_bytes(damage)
        restarted(settings).reconcile(None)
        assert json.loads(pod.record.read_text()) == json.loads(written)
    pod.record.unlink()
    restarted(settings).reconcile(None)
    assert pod.record.read_text() == written


def test_a_record_is_left_alone_once_the_volume_is_taken(table: VolumeTable, pod: Pod) -> None:
    publish(table, pod)
    table.unpublish(pod.volume_id, pod.target)
    pod.record.write_bytes(b"")
    table.reconcile(None)
    assert pod.record.read_bytes() == b""


def test_what_kubelet_left_behind_is_collected(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod, a_csv="1")
    pod.record.write_bytes(b"")
    table = restarted(settings)
    now = time.monotonic()
    gone = frozenset({"33333333-3333-4333-8333-333333333333"})
    table.reconcile(None)
    table.reconcile(LivePods(gone, now + 1))
    table.reconcile(LivePods(gone, now + 1.1))
    assert states(table) == [VolumeState.LIVE], "one answer, or two right after another, are not enough"
    table.reconcile(LivePods(gone, now + 2.5))
    assert states(table) == [VolumeState.SPOOLED]
    assert (table.spool.files(pod.volume_id) / "a.csv").read_text() == "1"
    assert not pod.volume_dir.exists(), "kubelet had given it up: nothing may keep it from removing the pod"


def test_a_readable_record_stays_for_kubelet_to_unpublish(table: VolumeTable, pod: Pod) -> None:
    publish(table, pod, a_csv="1")
    now = time.monotonic()
    table.reconcile(LivePods(frozenset(), now + 1))
    table.reconcile(LivePods(frozenset(), now + 3))
    assert states(table) == [VolumeState.SPOOLED]
    assert pod.record.exists()
    table.unpublish(pod.volume_id, pod.target)


def test_a_live_pod_an_unknown_answer_and_an_old_one_change_nothing(table: VolumeTable, pod: Pod) -> None:
    before = time.monotonic()
    publish(table, pod, a_csv="1")
    now = time.monotonic()
    for live in (
        LivePods(frozenset(), before - 100),
        LivePods(frozenset(), before - 1),
        LivePods(frozenset(), now + 1),
        LivePods(frozenset({pod.uid}), now + 3),
        LivePods(frozenset(), now + 5),
        None,
        LivePods(frozenset(), now + 7),
    ):
        table.reconcile(live)
        assert states(table) == [VolumeState.LIVE]


def test_finished_volumes_are_forgotten_after_an_hour(
    table: VolumeTable, pod: Pod, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(table, pod)
    table.unpublish(pod.volume_id, pod.target)
    table.finish(table.waiting()[0], Finish(state=VolumeState.DISCARDED, message="410"))
    table.reconcile(None)
    assert states(table) == [VolumeState.DISCARDED]
    later = time.monotonic() + module.REMEMBER_SECONDS + 1
    monkeypatch.setattr("edgewise_agent.volumes.table.time.monotonic", lambda: later)
    table.reconcile(None)
    assert table.reports() == ()
    assert list((settings.plugin_dir / "journal").iterdir()) == []


def test_target_on_another_filesystem_is_explained(table: VolumeTable, pod: Pod, tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm") / f"edgewise-{pod.uid}-{tmp_path.name}"
    assert elsewhere.parent.stat().st_dev != pod.kubelet_root.stat().st_dev, "this test needs two filesystems"
    elsewhere.mkdir()
    try:
        with pytest.raises(OSError, match="are not on one filesystem"):
            table.spool.take(pod.volume_id, elsewhere)
        assert elsewhere.is_dir()
    finally:
        elsewhere.rmdir()
