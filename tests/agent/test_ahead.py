"""Files of running apps: which are taken for finished, and how they get home before their pod ends."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from edgewise_agent import ahead as module
from edgewise_agent import uploader
from edgewise_agent.ahead import ON_CLOSE, Ahead
from edgewise_agent.lanes import Lanes
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.gateway import Gateway
from edgewise_agent.uploader import CHUNK_BYTES
from edgewise_agent.wire import VolumeState

from tests.agent.cluster import Fault, Upload
from tests.agent.kubelet import JOB_UID, Pod, outputs
from tests.agent.test_table import entry, publish
from tests.agent.test_uploader import BIG, Device, device_
from tests.agent.waiting import until

__all__ = ["device_"]


class Clock:
    """The wall clock, ahead by as much as a test says."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time_ns(self) -> int:
        return time.time_ns() + int(self.seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def pod(settings: Settings) -> Pod:
    made = Pod(settings.kubelet_root, asked=outputs(collect=ON_CLOSE))
    made.target.mkdir(parents=True)
    return made


def names(ahead: Ahead, pod: Pod) -> list[str] | None:
    plan = ahead.plan(entry(pod), lambda: None)
    return None if plan is None else [file.name for file in plan.files]


def test_a_file_is_finished_once_it_has_been_quiet(pod: Pod, clock: Clock) -> None:
    ahead = Ahead()
    assert names(ahead, pod) is None
    pod.write(a_csv="1", notes_txt="not asked for")
    os.utime(pod.target / "a.csv", (0, 0))
    assert names(ahead, pod) is None, "what an app says of a file's age does not count"
    clock.seconds = module.QUIET_SECONDS + 1
    pod.write(b_csv="2")
    clock.seconds = module.QUIET_SECONDS - 1
    assert names(ahead, pod) is None
    clock.seconds = module.QUIET_SECONDS + 1
    assert names(ahead, pod) == ["a.csv", "b.csv"]


def test_a_plan_that_has_arrived_is_not_made_again(pod: Pod, clock: Clock) -> None:
    ahead, clock.seconds = Ahead(), 100
    pod.write(a_csv="1")
    plan = ahead.plan(entry(pod), lambda: None)
    assert plan is not None
    assert ahead.plan(entry(pod), lambda: None) == plan, "not home yet"
    ahead.arrived(entry(pod), plan)
    assert names(ahead, pod) is None
    pod.write(b_csv="2")
    assert names(ahead, pod) == ["a.csv", "b.csv"], "each plan names what is home, or the gateway would drop it"


def test_a_file_that_goes_on_after_all_must_be_quiet_for_longer(pod: Pod, clock: Clock) -> None:
    ahead, clock.seconds = Ahead(), 100
    pod.write(grows_csv="1", stays_csv="1", goes_csv="1")
    assert names(ahead, pod) == ["goes.csv", "grows.csv", "stays.csv"]
    (pod.target / "goes.csv").unlink()
    for times in (2, 4, 8):
        (pod.target / "grows.csv").write_text("1" * times)
        clock.seconds = times * module.QUIET_SECONDS - 1
        assert names(ahead, pod) == ["stays.csv"]
        clock.seconds = times * module.QUIET_SECONDS + 1
        assert names(ahead, pod) == ["grows.csv", "stays.csv"]
    (pod.target / "grows.csv").unlink()
    assert names(ahead, pod) == ["stays.csv"]
    pod.write(goes_csv="again", grows_csv="again")
    clock.seconds = module.QUIET_SECONDS + 1
    assert names(ahead, pod) == ["goes.csv", "grows.csv", "stays.csv"], "what is removed has left nothing behind"


def test_an_app_that_removes_its_files_can_send_any_number(
    pod: Pod, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, clock.seconds = Ahead(), 100
    monkeypatch.setattr(module, "MOST_AHEAD", 2)
    for number in range(10):
        path = pod.target / f"{number}.csv"
        path.write_text("1")
        assert f"{number}.csv" in (names(ahead, pod) or [])
        path.write_text("12")
        names(ahead, pod)
        if number:
            (pod.target / f"{number - 1}.csv").unlink()


def test_limits_hold_and_nothing_hostile_goes_ahead(pod: Pod, clock: Clock) -> None:
    clock.seconds = 100
    pod.asked = outputs(collect=ON_CLOSE, max_files=3, size_limit_bytes=10)
    pod.write(a_csv="12345", b_csv="1234567", c_csv="12345", d_csv="")
    (pod.target / "link.csv").symlink_to("/etc/passwd")
    os.link(pod.target / "a.csv", pod.target / "second.csv")
    os.mkfifo(pod.target / "fifo.csv")
    Path(os.fsdecode(bytes(pod.target) + b"/bad\xff.csv")).write_text("x")
    assert names(Ahead(), pod) == ["b.csv", "d.csv"]
    (pod.target / "second.csv").unlink()
    pod.asked = outputs(collect=ON_CLOSE, max_files=2, size_limit_bytes=100)
    found = names(Ahead(), pod)
    assert found == ["b.csv", "c.csv"], "the longest quiet ones; the link that went has just touched a.csv"


def test_no_more_than_a_plan_may_name(pod: Pod, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, clock.seconds = Ahead(), 100
    monkeypatch.setattr(module, "MOST_AHEAD", 3)
    for number in range(5):
        (pod.target / f"{number}.csv").write_text(str(number))
    found = names(ahead, pod)
    assert found is not None
    assert len(found) == 3
    assert names(ahead, pod) == found


@pytest.fixture
def eager(device_: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device that takes a file for finished at once, and looks all the time."""
    monkeypatch.setattr(module, "QUIET_SECONDS", -10)
    monkeypatch.setattr(uploader, "AHEAD_SECONDS", 0.01)
    return device_


def running(device: Device, number: int = 1) -> Pod:
    pod = Pod(device.settings.kubelet_root, number, asked=outputs(collect=ON_CLOSE))
    publish(device.table, pod)
    return pod


async def test_finished_files_come_home_while_the_app_runs(eager: Device) -> None:
    pod = running(eager)
    async with eager.uploading():
        for number in range(3):
            pod.write(**{f"day{number}_csv": f"photo,{number}\n"})
            await until(lambda: eager.held(pod) >= 8 * (number + 1), "the file to come home")  # noqa: B023
        assert eager.report(pod).state is VolumeState.LIVE
        assert eager.home(pod).manifest is None
        before = list(eager.cluster.patched)
        pod.write(last_csv="photo,z\n")
        eager.table.unpublish(pod.volume_id, pod.target)
        await until(lambda: eager.report(pod).state is VolumeState.DONE, "the whole to come home")
    assert eager.home(pod).files() == {
        "day0.csv": b"photo,0\n",
        "day1.csv": b"photo,1\n",
        "day2.csv": b"photo,2\n",
        "last.csv": b"photo,z\n",
    }
    assert len(eager.cluster.patched) == len(before) + 1, "what was home is not sent again"


async def test_volumes_that_want_it_not_are_left_alone(eager: Device) -> None:
    quiet = Pod(eager.settings.kubelet_root, 1)
    publish(eager.table, quiet, a_csv="1")
    pod = running(eager, 2)
    pod.write(a_csv="2")
    async with eager.uploading():
        await until(lambda: eager.held(pod), "the other's file to come home")
    assert list(eager.cluster.uploads) == [f"{JOB_UID}/{pod.uid}"]


async def test_a_pod_that_ends_while_a_file_goes_ahead(eager: Device) -> None:
    """The early plan must never come after the last one, nor hold it up."""
    pod = running(eager)
    pod.write(small_csv="1")
    (pod.target / "big.csv").write_bytes(BIG)
    eager.cluster.faults += [Fault("PATCH", keep_bytes=500_000), Fault("PUT"), Fault("PATCH", status=500)]
    async with eager.uploading():
        await until(lambda: eager.held(pod) >= 500_000, "the large file to be under way")
        eager.table.unpublish(pod.volume_id, pod.target)
        await until(lambda: eager.report(pod).state is VolumeState.DONE, "the whole to come home")
    assert eager.home(pod).files() == {"big.csv": BIG, "small.csv": b"1"}


@pytest.mark.parametrize("late", [1, 2])
async def test_an_early_plan_that_is_taken_late_does_not_become_the_result(
    eager: Device, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """Its answer was lost, and the gateway comes to it only after the first, or the last, chunk of the whole."""
    pod = running(eager)
    pod.write(early_csv="1")
    early = Ahead().plan(entry(pod), lambda: None)
    assert early is not None
    pod.write(late_csv="2")
    eager.table.unpublish(pod.volume_id, pod.target)
    upload = eager.cluster.uploads.setdefault(f"{JOB_UID}/{pod.uid}", Upload())
    real = uploader.Uploader._send_chunk

    def chunk_then_late_plan(*args: object) -> object:
        answer = real(*args)  # type: ignore[arg-type]
        if len(eager.cluster.patched) == late:
            assert not upload.accepts(early)
        return answer

    monkeypatch.setattr(uploader.Uploader, "_send_chunk", chunk_then_late_plan)
    assert (await eager.brought_home(pod)).files() == {"early.csv": b"1", "late.csv": b"2"}


@pytest.mark.parametrize("status", [403, 410, 422, 425, 500, 507])
async def test_what_can_not_go_ahead_goes_at_the_end(eager: Device, status: int) -> None:
    pod = running(eager)
    pod.write(a_csv="1")
    eager.cluster.faults.append(Fault("PUT", status=status))
    async with eager.uploading() as sender:
        await until(lambda: not eager.cluster.faults, "the answer")
        assert eager.report(pod).state is VolumeState.LIVE
        eager.table.unpublish(pod.volume_id, pod.target)
        sender.wake()
        await until(lambda: eager.report(pod).state is VolumeState.DONE, "the whole to come home")
    assert eager.home(pod).files() == {"a.csv": b"1"}


@pytest.mark.parametrize("turn_is_over", [True, False])
async def test_a_lane_is_given_up_to_results_once_its_turn_is_over(
    eager: Device, monkeypatch: pytest.MonkeyPatch, turn_is_over: bool
) -> None:
    monkeypatch.setattr(uploader, "TURN_SECONDS", 0.0 if turn_is_over else 3600.0)
    pod = running(eager)
    (pod.target / "big.csv").write_bytes(BIG)
    begun, waited_for = threading.Event(), threading.Event()
    held_first: list[int] = []
    real_chunk, real_take, real_complete = uploader.Uploader._send_chunk, Lanes.take, Gateway.complete

    def chunk(*args: Any) -> Any:
        answer = real_chunk(*args)
        begun.set()
        assert waited_for.wait(15), "the results of the ended pod must be seen to wait"
        return answer

    def take(lanes: Lanes, due: Any) -> Any:
        started = real_take(lanes, due)
        if lanes.results_wait:
            waited_for.set()
        return started

    def complete(*args: Any) -> Any:
        held_first.append(eager.held(pod))
        return real_complete(*args)

    monkeypatch.setattr(uploader.Uploader, "_send_chunk", chunk)
    monkeypatch.setattr(Lanes, "take", take)
    monkeypatch.setattr(Gateway, "complete", complete)
    async with eager.uploading(concurrency=1) as sender:
        await until(begun.is_set, "the running app's file to be under way")
        ended = eager.pod(2, a_csv="1")
        sender.wake()
        await until(lambda: eager.report(ended).state is VolumeState.DONE, "the results to come home")
        await until(lambda: eager.held(pod) == len(BIG), "the running app's file to go on where it was")
    assert held_first == [CHUNK_BYTES if turn_is_over else len(BIG)]
    assert sum(length for _, length in eager.cluster.patched) == len(BIG) + 1, "nothing is sent twice"
