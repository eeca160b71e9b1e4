"""Logs of pods without output volume: from kubelet's folder to the spool, once, whatever comes between."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from edgewise_agent import podlogs as module
from edgewise_agent.journal import Finish, Journal
from edgewise_agent.podlogs import AGAIN_SECONDS, UNNAMED_SECONDS, PodLogs
from edgewise_agent.settings import Settings
from edgewise_agent.volumes import table as table_module
from edgewise_agent.volumes.table import LOGS_SHARE, REMEMBER_SECONDS, LivePods, VolumeTable
from edgewise_agent.wire import LoggedPod, VolumeReport, VolumeState
from msgspec import structs

from tests.agent.kubelet import JOB_UID, Pod
from tests.agent.test_logs import kept
from tests.agent.test_table import publish, restarted, states


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(table_module, "time", made)
    return made


@pytest.fixture
def pod(settings: Settings) -> Pod:
    """A pod that has no volume at all."""
    return Pod(settings.kubelet_root)


@pytest.fixture
def watch(clock: Clock, settings: Settings, table: VolumeTable) -> PodLogs:
    return PodLogs(settings, table)


def named(pod: Pod, *, ended: bool = False) -> LoggedPod:
    """The pod as the operator names it."""
    return LoggedPod(
        namespace="demo", pod_name=pod.name, pod_uid=pod.uid, job="faces", job_uid=JOB_UID, attempt=1, ended=ended
    )


def spooled(table: VolumeTable, pod: Pod) -> dict[str, str]:
    folder = table.spool.logs(f"logs-{pod.uid}")
    return kept(folder) if folder.exists() else {}


def report(table: VolumeTable) -> VolumeReport:
    (one,) = table.reports()
    return one


def remove(pod: Pod, settings: Settings) -> None:
    """What kubelet does with the logs of a pod that is deleted."""
    folder = pod.log_folder(settings.pod_logs)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_the_logs_of_an_ended_pod_are_taken_once(
    watch: PodLogs, table: VolumeTable, pod: Pod, settings: Settings
) -> None:
    pod.say(settings.pod_logs, "working\n")
    watch.look((named(pod),))
    assert table.reports() == (), "a pod that runs is left alone"
    pod.say(settings.pod_logs, "done\n")
    watch.look((named(pod, ended=True),))
    assert spooled(table, pod) == {"app/0.log": "working\ndone\n"}
    assert (report(table).pod_uid, report(table).job_uid, report(table).state) == (
        pod.uid,
        JOB_UID,
        VolumeState.SPOOLED,
    )
    assert report(table).bytes_ == table.usage().bytes_ == 13, "they fill the spool, too"
    (held,) = table.waiting()
    assert held.entry.logs_only
    pod.say(settings.pod_logs, "late\n")
    watch.look((named(pod, ended=True),))
    assert watch.idle
    assert spooled(table, pod) == {"app/0.log": "working\ndone\n"}


def test_each_container_brings_its_newest_bytes(clock: Clock, table: VolumeTable, pod: Pod, settings: Settings) -> None:
    pod.say(settings.pod_logs, "a\nb\nc\nd\n")
    pod.say(settings.pod_logs, "e\nf\n", "init/0.log")
    PodLogs(replace(settings, log_limit_bytes=4), table).look((named(pod, ended=True),))
    assert spooled(table, pod) == {
        "app/0.log": "# 4 bytes of older log were left out on the device\nc\nd\n",
        "init/0.log": "e\nf\n",
    }


def test_logs_that_kubelet_has_removed_are_still_there(
    watch: PodLogs, table: VolumeTable, pod: Pod, settings: Settings
) -> None:
    """As with a cancelled pod, which is gone before the operator could say that it has ended."""
    pod.say(settings.pod_logs, "rotated\n", "app/0.log.20260101-000000")
    pod.say(settings.pod_logs, "working\n")
    watch.look((named(pod),))
    pod.say(settings.pod_logs, "cancelled\n")
    remove(pod, settings)
    watch.look(())
    assert spooled(table, pod) == {"app/0.log": "rotated\nworking\ncancelled\n"}
    assert watch.idle


def test_a_rotation_meanwhile_loses_nothing_of_the_last_two_parts(
    watch: PodLogs, table: VolumeTable, pod: Pod, settings: Settings
) -> None:
    log = pod.log_folder(settings.pod_logs) / "app/0.log"
    for number, text in enumerate(("first\n", "second\n", "third\n")):
        pod.say(settings.pod_logs, text)
        watch.look((named(pod),))
        if number < 2:
            log.rename(log.with_name(f"0.log.20260101-00000{number}"))
    remove(pod, settings)
    watch.look(())
    assert spooled(table, pod) == {"app/0.log": "second\nthird\n"}


def test_links_are_not_followed(watch: PodLogs, table: VolumeTable, pod: Pod, settings: Settings) -> None:
    secret = settings.kubelet_root / "secret"
    secret.write_text("secret\n")
    pod.say(settings.pod_logs, "mine\n")
    folder = pod.log_folder(settings.pod_logs) / "app"
    (folder / "1.log").symlink_to(secret)
    os.link(secret, folder / "2.log")
    (folder.parent / "other").symlink_to(settings.kubelet_root)
    watch.look((named(pod),))
    watch.look((named(pod, ended=True),))
    assert spooled(table, pod) == {"app/0.log": "mine\n"}


@pytest.mark.parametrize("field", ["namespace", "pod_name"])
def test_a_name_that_leads_elsewhere_is_not_looked_at(
    watch: PodLogs, table: VolumeTable, pod: Pod, settings: Settings, field: str
) -> None:
    pod.say(settings.pod_logs, "mine\n")
    watch.look((structs.replace(named(pod, ended=True), **{field: "../demo"}),))
    assert watch.idle
    assert table.reports() == ()


def test_a_pod_that_left_no_logs_is_asked_for_no_more(
    watch: PodLogs, table: VolumeTable, pod: Pod, settings: Settings
) -> None:
    watch.look((named(pod, ended=True),))
    assert (report(table).state, report(table).message) == (
        VolumeState.DISCARDED,
        "the device has no logs of this pod",
    )
    assert table.waiting() == []
    assert watch.idle
    assert states(restarted(settings)) == [VolumeState.DISCARDED]


def test_a_limit_of_nothing_keeps_no_logs(clock: Clock, table: VolumeTable, pod: Pod, settings: Settings) -> None:
    pod.say(settings.pod_logs, "mine\n")
    PodLogs(replace(settings, log_limit_bytes=0), table).look((named(pod, ended=True),))
    assert report(table).state is VolumeState.DISCARDED
    assert spooled(table, pod) == {}


def test_a_pod_that_is_named_no_more_has_ended(
    watch: PodLogs, clock: Clock, table: VolumeTable, pod: Pod, settings: Settings
) -> None:
    pod.say(settings.pod_logs, "mine\n")
    watch.look((named(pod),))
    clock.seconds += UNNAMED_SECONDS + 1
    watch.look(None)
    assert not watch.idle, "an operator that does not know says nothing of the pod"
    watch.look(())
    assert spooled(table, pod) == {"app/0.log": "mine\n"}


def test_what_can_not_be_copied_is_tried_again_later(
    watch: PodLogs, clock: Clock, table: VolumeTable, pod: Pod, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.say(settings.pod_logs, "mine\n")
    tries = []

    def full(self: object, *_: object) -> None:
        tries.append(clock.seconds)
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "write", full)
        watch.look((named(pod, ended=True),))
        watch.look((named(pod, ended=True),))
        assert len(tries) == 1
    assert table.reports() == (), "the operator must go on naming it"
    clock.seconds += AGAIN_SECONDS
    watch.look((named(pod, ended=True),))
    assert spooled(table, pod) == {"app/0.log": "mine\n"}


def test_a_crash_between_copy_and_journal_takes_them_anew(
    watch: PodLogs,
    clock: Clock,
    table: VolumeTable,
    pod: Pod,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod.say(settings.pod_logs, "mine\n")

    class PowerCut(Exception):
        """Nothing happens after it."""

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "write", cut)
        with pytest.raises(PowerCut):
            watch.look((named(pod, ended=True),))
    again = restarted(settings)
    again.spool.sweep()
    assert again.reports() == ()
    assert list((settings.plugin_dir / "spool").iterdir()) == []
    PodLogs(settings, again).look((named(pod, ended=True),))
    assert spooled(again, pod) == {"app/0.log": "mine\n"}
    assert states(restarted(settings)) == [VolumeState.SPOOLED]


def test_logs_that_the_spool_has_lost_are_wanted_again(
    watch: PodLogs, table: VolumeTable, pod: Pod, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    pod.say(settings.pod_logs, "mine\n")
    watch.look((named(pod, ended=True),))
    table.spool.let_go(f"logs-{pod.uid}")
    again = restarted(settings)
    assert "are not any more" in caplog.text
    assert not again.knows_logs(pod.uid)


def pods_that_ended(settings: Settings, count: int, text: str) -> list[Pod]:
    pods = [Pod(settings.kubelet_root, number) for number in range(1, count + 1)]
    for pod in pods:
        pod.say(settings.pod_logs, text)
    return pods


def test_logs_leave_most_of_the_spool_to_results(clock: Clock, settings: Settings) -> None:
    narrow = replace(settings, spool_limit_bytes=LOGS_SHARE * 15)
    table = VolumeTable(narrow, lambda: None)
    table.load()
    watch = PodLogs(narrow, table)
    pods = pods_that_ended(settings, 4, "0123456789\n")
    wanted = tuple(named(pod, ended=True) for pod in pods)
    watch.look(wanted)
    assert table.usage().bytes_ == 22, "their share, and one pod's more"
    assert not watch.idle
    publish(table, Pod(settings.kubelet_root, 9), a_csv="results still find room")
    table.finish(table.waiting()[0], Finish(state=VolumeState.DONE))
    watch.look(wanted)
    assert [pod.number for pod in pods if table.knows_logs(pod.uid)] == [1, 2, 3]


def test_without_room_the_logs_of_a_pod_that_is_gone_are_given_up(
    clock: Clock, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Open files of removed logs would fill the disk, and nothing would show it."""
    narrow = replace(settings, spool_limit_bytes=LOGS_SHARE)
    table = VolumeTable(narrow, lambda: None)
    table.load()
    watch = PodLogs(narrow, table)
    first, second = pods_that_ended(settings, 2, "mine\n")
    watch.look((named(first, ended=True), named(second, ended=True)))
    assert table.knows_logs(first.uid)
    assert not watch.idle
    remove(second, settings)
    watch.look((named(second, ended=True),))
    assert f"logs of pod demo/{second.name} are lost" in caplog.text


def test_taken_logs_are_remembered_as_long_as_their_pod_lives(
    watch: PodLogs, clock: Clock, table: VolumeTable, pod: Pod, settings: Settings
) -> None:
    pod.say(settings.pod_logs, "mine\n")
    watch.look((named(pod, ended=True),))
    table.finish(table.waiting()[0], Finish(state=VolumeState.DONE, bytes_=5))
    clock.seconds += REMEMBER_SECONDS + 1
    for live in (None, LivePods(frozenset({pod.uid}), clock.seconds)):
        table.reconcile(live)
        assert table.knows_logs(pod.uid), "they would be taken again"
    table.reconcile(LivePods(frozenset(), clock.seconds))
    assert not table.knows_logs(pod.uid)


def test_open_files_are_let_go(watch: PodLogs, pod: Pod, settings: Settings) -> None:
    pod.say(settings.pod_logs, "mine\n")

    def held() -> int:
        return sum(os.path.realpath(path).endswith("app/0.log") for path in Path("/proc/self/fd").iterdir())

    watch.look((named(pod),))
    assert held() == 1
    watch.look((named(pod),))
    assert held() == 1
    watch.look((named(pod, ended=True),))
    assert held() == 0
