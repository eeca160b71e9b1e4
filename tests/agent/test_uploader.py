"""Results on their way home, whatever comes between: a real HTTPS gateway in memory, and real files."""

import asyncio
import errno
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from edgewise_agent import uploader as module
from edgewise_agent.backoff import Backoff
from edgewise_agent.journal import BundleEntry, Entry, Journal
from edgewise_agent.lanes import MANY_FILES
from edgewise_agent.podlogs import PodLogs
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Connection
from edgewise_agent.uplink.gateway import Gateway
from edgewise_agent.uplink.pace import Pace
from edgewise_agent.uploader import CHUNK_BYTES, Uploader
from edgewise_agent.volumes.table import Held, VolumeTable
from edgewise_agent.wire import LoggedPod, UploadPlan, VolumeReport, VolumeState

from tests.agent.authority import Authority
from tests.agent.cluster import Cluster, Fault, Upload
from tests.agent.kubelet import JOB_UID, Pod, outputs
from tests.agent.test_table import publish
from tests.agent.waiting import until

BIG = os.urandom(2 * CHUNK_BYTES + 12_345)
"""bytes that no compression makes smaller"""
TABLE = b"".join(
    b"photo-%06d.jpg,%d,%d,0.%04d\n" % (n, n * 7919 % 1920, n * 104729 % 1080, n * 31 % 9973) for n in range(180_000)
)
"""a CSV of some 5 MiB"""


@dataclass
class Device:
    """A device whose pods end and whose uploader runs."""

    settings: Settings
    table: VolumeTable
    cluster: Cluster

    def pod(self, number: int = 1, /, **files: str | bytes) -> Pod:
        """A pod that wrote `files` and ended."""
        pod = Pod(self.settings.kubelet_root, number)
        publish(self.table, pod)
        for name, content in files.items():
            (pod.target / name.replace("_", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
        self.table.unpublish(pod.volume_id, pod.target)
        return pod

    def report(self, pod: Pod) -> VolumeReport:
        return next(report for report in self.table.reports() if report.pod_uid == pod.uid)

    def home(self, pod: Pod) -> Upload:
        return self.cluster.uploads[f"{JOB_UID}/{pod.uid}"]

    def held(self, pod: Pod) -> int:
        """Bytes of it that the gateway holds."""
        upload = self.cluster.uploads.get(f"{JOB_UID}/{pod.uid}", Upload())
        return sum(len(blob) for blob in upload.blobs.values())

    @asynccontextmanager
    async def uploading(self, concurrency: int = 2, pace: Pace | None = None) -> AsyncIterator[Uploader]:
        connection = Connection(
            self.cluster.url,
            ca_file=self.settings.ca_file,
            token_file=self.settings.token_file,
            read_seconds=5,
            kept=concurrency,
        )
        uploader = Uploader(self.table, Gateway(connection, pace or Pace(0)), concurrency=concurrency)
        task = asyncio.create_task(uploader.run())
        try:
            yield uploader
        finally:
            task.cancel()
            await asyncio.wait([task])
            connection.close()

    async def brought_home(self, pod: Pod) -> Upload:
        """Upload until the pod's results are acknowledged."""
        async with self.uploading():
            await until(lambda: self.report(pod).state is VolumeState.DONE, f"{pod.name} to come home")
        return self.home(pod)


@pytest.fixture
def device_(reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device with quick back-offs."""
    monkeypatch.setattr(
        module,
        "Backoff",
        lambda first, most: QuickBackoff() if most < module.MOST_CHECK_SECONDS else Backoff(first, most),
    )
    table = VolumeTable(reachable, lambda: None)
    table.load()
    return Device(reachable, table, cluster)


class QuickBackoff:
    """Waits a hundredth of a second, and counts."""

    waits = 0

    def failed(self) -> float:
        QuickBackoff.waits += 1
        return 0.01

    def succeeded(self) -> None: ...


async def test_the_straight_path(device_: Device) -> None:
    pod = device_.pod(faces_csv="photo,x\n1,2\n", notes_txt="not asked for", empty_csv="")
    upload = await device_.brought_home(pod)
    assert upload.files() == {"empty.csv": b"", "faces.csv": b"photo,x\n1,2\n"}
    assert upload.plan is not None
    assert (upload.plan.job, upload.plan.attempt, upload.plan.pod_name) == ("faces", 1, pod.name)
    assert upload.plan.skipped == 1
    report = device_.report(pod)
    assert (report.bytes_, report.sent_bytes, report.message) == (12, 12, "")
    assert [request for request, _ in device_.cluster.requests] == ["PUT", "PATCH", "POST"]


@pytest.fixture
def checking(device_: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device that asks at once, and again and again, what became of acknowledged results."""
    monkeypatch.setattr(module, "Backoff", lambda _first, _most: QuickBackoff())
    return device_


def is_spooled(device: Device, pod: Pod) -> bool:
    return (device.settings.plugin_dir / "spool" / pod.volume_id).exists()


async def test_a_copy_is_kept_until_the_operator_has_decided(checking: Device) -> None:
    pod = checking.pod(faces_csv="photo,x\n")
    async with checking.uploading():
        await until(lambda: ("GET", f"/v1/uploads/{JOB_UID}/{pod.uid}") in checking.cluster.requests, "a question")
        assert is_spooled(checking, pod)
        assert checking.report(pod).state is VolumeState.DONE
        assert checking.table.usage().bytes_ == 0, "a copy holds up no new volume"
        checking.cluster.settled = True
        await until(lambda: not list((checking.settings.plugin_dir / "spool").iterdir()), "the spool to be empty")
    assert checking.report(pod).state is VolumeState.DONE
    assert checking.table.kept() == []


async def test_what_the_gateway_has_lost_is_sent_again(checking: Device) -> None:
    """As when its volume was put back to an older state, between its acknowledgement and the operator's decision."""
    pod = checking.pod(faces_csv="photo,x\n")
    async with checking.uploading():
        await until(lambda: checking.cluster.completed_order == [pod.uid], "the results to come home")
        checking.cluster.uploads.clear()
        await until(lambda: checking.cluster.completed_order == [pod.uid] * 2, "the results to come home again")
        await until(lambda: checking.report(pod).state is VolumeState.DONE, "the second acknowledgement")
    assert checking.home(pod).files() == {"faces.csv": b"photo,x\n"}


def fill_disk_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The next entry of the journal finds the disk full; the volume that it was for is in the list from then on."""
    failed: list[str] = []
    real = Journal.write

    def write(journal: Journal, entry: Entry | BundleEntry) -> None:
        if not failed:
            failed.append(entry.volume_id)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(journal, entry)

    monkeypatch.setattr(Journal, "write", write)
    return failed


async def test_what_the_gateway_has_lost_is_sent_again_from_a_full_disk(
    checking: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = checking.pod(faces_csv="photo,x\n")
    await checking.brought_home(pod)
    checking.cluster.uploads.clear()
    failed = fill_disk_once(monkeypatch)
    async with checking.uploading():
        await until(lambda: checking.cluster.completed_order == [pod.uid] * 2, "the results to come home again")
    assert failed == [pod.volume_id]


async def test_a_restarted_agent_still_asks_about_its_copies(checking: Device) -> None:
    pod = checking.pod(faces_csv="photo,x\n")
    await checking.brought_home(pod)
    checking.cluster.uploads.clear()
    checking.table = VolumeTable(checking.settings, lambda: None)
    checking.table.load()
    assert checking.report(pod).state is VolumeState.DONE
    async with checking.uploading():
        await until(lambda: checking.cluster.completed_order == [pod.uid] * 2, "the results to come home again")


@pytest.mark.parametrize("status", [None, 403, 404, 405, 409, 410, 500])
async def test_an_answer_that_settles_nothing_is_asked_for_again(checking: Device, status: int | None) -> None:
    pod = checking.pod(faces_csv="photo,x\n")
    checking.cluster.faults += [Fault("GET", status=status) for _ in range(2)]
    async with checking.uploading():
        await until(lambda: not checking.cluster.faults, "two questions")
        assert is_spooled(checking, pod)
        checking.cluster.settled = True
        await until(lambda: not is_spooled(checking, pod), "the copy to go")
    assert checking.cluster.completed_order == [pod.uid]


async def test_nothing_written_still_ends_with_a_manifest(device_: Device) -> None:
    upload = await device_.brought_home(device_.pod())
    assert upload.manifest is not None
    assert upload.manifest.files == ()


async def test_same_content_travels_once(device_: Device) -> None:
    pod = device_.pod(a_csv="same", b_csv="same", c_csv="other")
    upload = await device_.brought_home(pod)
    assert upload.files() == {"a.csv": b"same", "b.csv": b"same", "c.csv": b"other"}
    assert sorted(length for _, length in device_.cluster.patched) == [4, 5]
    assert device_.report(pod).sent_bytes == 13


async def test_logs_come_home_beside_the_results(device_: Device) -> None:
    pod = Pod(device_.settings.kubelet_root)
    publish(device_.table, pod, faces_csv="same\n")
    pod.say(device_.settings.pod_logs, "working\n")
    pod.say(device_.settings.pod_logs, "same\n", "init/0.log")
    device_.table.unpublish(pod.volume_id, pod.target)
    upload = await device_.brought_home(pod)
    assert upload.files() == {"faces.csv": b"same\n"}
    assert upload.logs() == {"app/0.log": b"working\n", "init/0.log": b"same\n"}
    assert (device_.report(pod).bytes_, device_.report(pod).sent_bytes) == (18, 18)
    assert sum(length for _, length in device_.cluster.patched) == 13, "the same content travels once"


def said(device: Device, number: int, text: str) -> Pod:
    """A pod without output volume that said `text`, ended, and has its logs in the spool."""
    pod = Pod(device.settings.kubelet_root, number)
    pod.say(device.settings.pod_logs, text)
    PodLogs(device.settings, device.table).look(
        (
            LoggedPod(
                namespace="demo",
                pod_name=pod.name,
                pod_uid=pod.uid,
                job="faces",
                job_uid=JOB_UID,
                attempt=1,
                ended=True,
            ),
        )
    )
    return pod


async def test_logs_come_home_alone_after_results(device_: Device) -> None:
    first = said(device_, 1, "working\n")
    second = device_.pod(2, faces_csv="photo,x\n")
    async with device_.uploading(concurrency=1):
        await until(lambda: len(device_.cluster.completed_order) == 2, "both to come home")
        await until(lambda: device_.report(first).state is VolumeState.DONE, "the logs to be acknowledged")
    assert device_.cluster.completed_order == [second.uid, first.uid]
    upload = device_.home(first)
    assert (upload.files(), upload.logs()) == ({}, {"app/0.log": b"working\n"})
    assert upload.plan is not None
    assert upload.plan.logs_only
    assert upload.manifest is not None
    assert upload.manifest.logs_only
    results = device_.home(second).plan
    assert results is not None
    assert not results.logs_only


async def test_logs_that_are_refused_fill_no_spool(device_: Device) -> None:
    pod = said(device_, 1, "working\n")
    device_.cluster.faults.append(Fault("PUT", status=422))
    async with device_.uploading():
        await until(lambda: device_.report(pod).state is VolumeState.DISCARDED, "the logs to be given up")
        await until(lambda: not list((device_.settings.plugin_dir / "spool").iterdir()), "the spool to be empty")
    assert "422 Scripted: a scripted fault" in device_.report(pod).message


async def test_very_many_files_are_read_aside_of_the_only_lane(
    device_: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan may take minutes to make, and wait for its turn at the gateway: small results go meanwhile."""
    many = Pod(device_.settings.kubelet_root, 1, asked=outputs(max_files=MANY_FILES + 1))
    publish(device_.table, many, a_csv="1")
    device_.table.unpublish(many.volume_id, many.target)
    few = device_.pod(2, b_csv="2")
    home = threading.Event()
    real = Uploader._make_plan

    def make(uploader: Uploader, held: Held) -> UploadPlan:
        if held.entry.volume_id == many.volume_id:
            assert home.wait(15), "the other must come home meanwhile"
        return real(uploader, held)

    monkeypatch.setattr(Uploader, "_make_plan", make)
    async with device_.uploading(concurrency=1):
        await until(lambda: device_.report(few).state is VolumeState.DONE, "the small results to come home")
        home.set()
        await until(lambda: device_.report(many).state is VolumeState.DONE, "the many files to come home")


async def test_large_files_go_in_chunks(device_: Device) -> None:
    upload = await device_.brought_home(device_.pod(big_csv=BIG))
    assert upload.files() == {"big.csv": BIG}
    assert device_.cluster.patched == [(0, CHUNK_BYTES), (CHUNK_BYTES, CHUNK_BYTES), (2 * CHUNK_BYTES, 12_345)]


async def test_what_gets_smaller_is_compressed(device_: Device) -> None:
    pods = [device_.pod(1, table_csv=TABLE), device_.pod(2, big_csv=BIG), device_.pod(3, tiny_csv="photo,x\n")]
    async with device_.uploading() as uploader:
        await until(lambda: len(device_.cluster.completed_order) == 3, "all to come home")
    assert [device_.home(pod).files() for pod in pods] == [
        {"table.csv": TABLE},
        {"big.csv": BIG},
        {"tiny.csv": b"photo,x\n"},
    ]
    packed = [length for encoding, length in device_.cluster.bodies if encoding == "gzip"]
    plain = [length for encoding, length in device_.cluster.bodies if encoding == ""]
    assert 0 < sum(packed) < len(TABLE) / 2.5
    assert sum(plain) == len(BIG) + len(b"photo,x\n")
    assert uploader.sent_bytes == len(TABLE) + sum(plain)
    assert uploader.body_bytes == sum(packed) + sum(plain)


async def test_a_gateway_that_does_not_unpack_gets_plain_bytes(device_: Device) -> None:
    device_.cluster.faults.append(Fault("PATCH", status=415))
    upload = await device_.brought_home(device_.pod(table_csv=TABLE))
    assert upload.files() == {"table.csv": TABLE}
    assert {encoding for encoding, _ in device_.cluster.bodies} == {""}, "one refusal is enough"


async def test_a_gateway_of_before_compression_gets_plain_bytes_in_the_end(
    device_: Device, authority: Authority, device: Path
) -> None:
    async with Cluster().serve(authority.server_context(device / "tls-old"), unpacks=False) as old:
        device_.cluster = old
        pods = [device_.pod(1, table_csv=TABLE), device_.pod(2, table_csv=TABLE + b"more\n")]
        for pod in pods:
            await device_.brought_home(pod)
    assert [old.uploads[f"{JOB_UID}/{pod.uid}"].files() for pod in pods] == [
        {"table.csv": TABLE},
        {"table.csv": TABLE + b"more\n"},
    ]


@pytest.mark.parametrize("keep_bytes", [1, 100_000, 1_000_000])
async def test_a_compressed_body_that_is_cut_off_is_resumed_inside_of_it(device_: Device, keep_bytes: int) -> None:
    device_.cluster.faults.append(Fault("PATCH", keep_bytes=keep_bytes))
    upload = await device_.brought_home(device_.pod(table_csv=TABLE))
    assert upload.files() == {"table.csv": TABLE}
    assert device_.cluster.patched[0][0] == keep_bytes
    assert sum(length for _, length in device_.cluster.patched) == len(TABLE) - keep_bytes
    assert {encoding for encoding, _ in device_.cluster.bodies} == {"gzip"}


@pytest.mark.parametrize("keep_bytes", [0, 1, 100_000, CHUNK_BYTES])
async def test_a_cut_connection_is_resumed_at_the_offset(device_: Device, keep_bytes: int) -> None:
    device_.cluster.faults.append(Fault("PATCH", keep_bytes=keep_bytes))
    upload = await device_.brought_home(device_.pod(big_csv=BIG))
    assert upload.files() == {"big.csv": BIG}
    assert device_.cluster.patched[0][0] == keep_bytes
    assert sum(length for _, length in device_.cluster.patched) == len(BIG) - keep_bytes, "nothing was sent twice"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST"])
@pytest.mark.parametrize("status", [None, 401, 409, 425, 500, 502, 503, 507])
async def test_passing_troubles_are_outlived(device_: Device, method: str, status: int | None) -> None:
    device_.cluster.faults += [Fault(method, status=status) for _ in range(3)]
    upload = await device_.brought_home(device_.pod(faces_csv="photo,x\n"))
    assert upload.files() == {"faces.csv": b"photo,x\n"}
    assert device_.cluster.faults == []


async def test_a_full_gateway_is_told_until_there_is_room(device_: Device) -> None:
    pod = device_.pod(faces_csv="photo,x\n")
    device_.cluster.faults += [Fault("PUT", status=507) for _ in range(10_000)]
    async with device_.uploading():
        await until(lambda: device_.report(pod).message, "the trouble to be told")
        assert "507 Scripted: a scripted fault" in device_.report(pod).message
        assert device_.report(pod).state is VolumeState.SPOOLED
        device_.cluster.faults.clear()
        await until(lambda: device_.report(pod).state is VolumeState.DONE, "the results to come home")
    assert device_.report(pod).message == ""


async def test_a_wrong_offset_goes_on_where_the_gateway_is(device_: Device) -> None:
    pod = device_.pod(big_csv=BIG)
    sha256 = hashlib.sha256(BIG).hexdigest()
    moved = b'{"reason":"WrongOffset","detail":"send from 1000 on","sha256":"%s","offset":1000}' % sha256.encode()
    device_.cluster.uploads[f"{JOB_UID}/{pod.uid}"] = upload = Upload(blobs={sha256: bytearray(BIG[:5000])})
    del upload.blobs[sha256][1000:]
    device_.cluster.faults.append(Fault("PATCH", status=409, body=moved))
    assert (await device_.brought_home(pod)).files() == {"big.csv": BIG}
    assert device_.cluster.patched[0][0] == 1000


async def test_bytes_damaged_on_the_way_are_sent_again(device_: Device) -> None:
    pod = device_.pod(faces_csv="photo,x\n")
    sha256 = hashlib.sha256(b"photo,x\n").hexdigest()
    device_.cluster.uploads[f"{JOB_UID}/{pod.uid}"] = Upload(blobs={sha256: bytearray(b"PHOTO")})
    assert (await device_.brought_home(pod)).files() == {"faces.csv": b"photo,x\n"}


async def test_a_gateway_that_never_gets_on_does_not_spin(device_: Device) -> None:
    pod = device_.pod(faces_csv="photo,x\n")
    sha256 = hashlib.sha256(b"photo,x\n").hexdigest()
    stuck = b'{"sha256":"%s","offset":0}' % sha256.encode()
    QuickBackoff.waits = 0
    device_.cluster.faults += [Fault("PATCH", status=200, body=stuck) for _ in range(module.MOST_STALLS + 1)]
    await device_.brought_home(pod)
    assert QuickBackoff.waits == 1


async def test_a_deleted_jobs_results_are_discarded(device_: Device) -> None:
    pod = device_.pod(faces_csv="photo,x\n")
    device_.cluster.faults.append(Fault("PUT", status=410))
    async with device_.uploading():
        await until(lambda: device_.report(pod).state is VolumeState.DISCARDED, "the results to be discarded")
        await until(lambda: not list((device_.settings.plugin_dir / "spool").iterdir()), "the spool to be empty")
    assert "410 Scripted: a scripted fault" in device_.report(pod).message


async def test_unwanted_results_that_fill_the_disk_can_go(device_: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for the journal only once they are gone."""
    pod, next_pod = device_.pod(1, faces_csv="photo,x\n"), device_.pod(2, faces_csv="photo,y\n")
    device_.cluster.faults.append(Fault("PUT", suffix=pod.uid, status=410))
    real = Journal.write

    def write(journal: Journal, entry: Entry | BundleEntry) -> None:
        if is_spooled(device_, pod) or list((device_.settings.plugin_dir / "spool").glob(".gone-*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(journal, entry)

    monkeypatch.setattr(Journal, "write", write)
    async with device_.uploading():
        await until(lambda: device_.report(pod).state is VolumeState.DISCARDED, "the results to be discarded")
        await until(lambda: device_.report(next_pod).state is VolumeState.DONE, "the next volume to come home")
    assert "410 Scripted: a scripted fault" in device_.report(pod).message
    again = VolumeTable(device_.settings, lambda: None)
    again.load()
    assert {report.pod_uid: report.state for report in again.reports()} == {
        pod.uid: VolumeState.DISCARDED,
        next_pod.uid: VolumeState.DONE,
    }


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST"])
@pytest.mark.parametrize("status", [403, 422])
async def test_refused_results_are_kept(device_: Device, method: str, status: int) -> None:
    pod, next_pod = device_.pod(1, faces_csv="photo,x\n"), device_.pod(2, faces_csv="photo,y\n")
    device_.cluster.faults.append(Fault(method, suffix=_end(method, pod), status=status))
    async with device_.uploading():
        await until(lambda: device_.report(next_pod).state is VolumeState.DONE, "the next volume to come home")
        await until(lambda: device_.report(pod).state is VolumeState.FAILED, "the refusal to be noted")
        report = device_.report(pod)
        assert f"{status} Scripted: a scripted fault" in report.message
        assert (device_.table.spool.files(pod.volume_id) / "faces.csv").exists()
    # a restart offers them again
    device_.table = VolumeTable(device_.settings, lambda: None)
    device_.table.load()
    assert (await device_.brought_home(pod)).files() == {"faces.csv": b"photo,x\n"}


def _end(method: str, pod: Pod) -> str:
    sha256 = hashlib.sha256(b"photo,x\n").hexdigest()
    return {"PUT": pod.uid, "PATCH": f"{pod.uid}/blobs/{sha256}", "POST": f"{pod.uid}/complete"}[method]


async def test_oldest_first_and_nobody_waits_for_one_that_is_early(device_: Device) -> None:
    pods = [device_.pod(number, faces_csv=str(number)) for number in (4, 1, 3, 2)]
    device_.cluster.faults.append(Fault("PUT", suffix=pods[1].uid, status=425))
    async with device_.uploading(concurrency=1):
        await until(lambda: len(device_.cluster.completed_order) == 4, "all to come home")
    order = device_.cluster.completed_order
    assert [uid for uid in order if uid != pods[1].uid] == [pods[0].uid, pods[2].uid, pods[3].uid]


async def test_a_small_volume_passes_a_large_one_and_a_large_one_never_blocks_the_lane(device_: Device) -> None:
    """Two large volumes and two small ones, on a link that takes seconds for a large one."""
    large = [device_.pod(1, big_csv=BIG), device_.pod(2, big_csv=b"x" + BIG)]
    small = [device_.pod(3, faces_csv="photo,x\n"), device_.pod(4, faces_csv="photo,y\n")]
    async with device_.uploading(pace=Pace(4 * 2**20)):
        await until(lambda: device_.cluster.completed_order, "the first to come home")
        assert device_.report(large[1]).state is VolumeState.SPOOLED, "the lane for small volumes is not for this one"
        await until(lambda: len(device_.cluster.completed_order) == 4, "all to come home", 60)
    assert device_.cluster.completed_order == [pod.uid for pod in (*small, *large)]
    assert device_.home(large[1]).files() == {"big.csv": b"x" + BIG}


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (4, 3)])
async def test_large_volumes_leave_one_lane_free(device_: Device, concurrency: int, most: int) -> None:
    pods = [device_.pod(number, big_csv=bytes([number]) + BIG) for number in range(1, 6)]
    seen = set()
    async with device_.uploading(concurrency):
        while len(device_.cluster.completed_order) < len(pods):
            seen.add(sum(device_.report(pod).state is VolumeState.SENDING for pod in pods))
            await asyncio.sleep(0.001)
    assert max(seen) <= most


async def test_the_bandwidth_cap_holds_over_all_connections(device_: Device) -> None:
    rate = 2 * 2**20
    pods = [device_.pod(number, big_csv=os.urandom(rate)) for number in (1, 2)]
    started = time.monotonic()
    async with device_.uploading(concurrency=3, pace=Pace(rate)) as uploader:
        await until(lambda: len(device_.cluster.completed_order) == len(pods), "both to come home", 30)
    assert uploader.sent_bytes == 2 * rate
    seconds = time.monotonic() - started
    assert seconds >= 2 - 0.5, "faster than the cap and its half second at once allow"


async def test_an_upload_at_a_slow_pace_ends_soon_when_the_agent_stops(device_: Device) -> None:
    device_.pod(big_csv=BIG)
    async with device_.uploading(concurrency=1, pace=Pace(1024)):
        await until(lambda: "PATCH" in dict(device_.cluster.requests), "the upload to begin")
    async with asyncio.timeout(5):
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_several_lanes_that_find_the_gateway_away_wait_once(device_: Device) -> None:
    for number in range(1, 5):
        device_.pod(number, faces_csv=str(number))
    device_.cluster.faults += [Fault("PUT"), Fault("PUT")]
    QuickBackoff.waits = 0
    async with device_.uploading(concurrency=2):
        await until(lambda: len(device_.cluster.completed_order) == 4, "all to come home")
    assert QuickBackoff.waits <= 2


async def test_a_way_home_that_is_back_is_tried_at_once(device_: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Backoff", lambda _first, _most: Backoff(3600, 3600))
    pod = device_.pod(faces_csv="photo,x\n")
    device_.cluster.faults.append(Fault("PUT"))
    async with device_.uploading() as uploader:
        await until(lambda: uploader._gateway_not_before > time.monotonic() + 60, "the gateway to be left alone")
        uploader.try_now()
        await until(lambda: device_.report(pod).state is VolumeState.DONE, "the volume to come home")


async def test_a_volume_that_comes_later_is_sent_when_woken(device_: Device) -> None:
    async with device_.uploading() as uploader:
        await until(lambda: not uploader._wake.is_set(), "the uploader to wait")
        pod = device_.pod(faces_csv="photo,x\n")
        uploader.wake()
        await until(lambda: device_.report(pod).state is VolumeState.DONE, "the volume to come home")


async def test_an_upload_goes_on_after_a_restart_without_reading_again(device_: Device) -> None:
    pod = device_.pod(big_csv=BIG)
    device_.cluster.faults += [Fault("PATCH", keep_bytes=1_000_000), *(Fault("PATCH", status=500) for _ in range(1000))]
    async with device_.uploading():
        await until(lambda: device_.held(pod) > 0, "the upload to be cut")
    device_.cluster.faults.clear()
    device_.table = VolumeTable(device_.settings, lambda: None)
    device_.table.load()
    plan = device_.table.spool.plan(pod.volume_id)
    assert plan is not None
    assert plan == device_.home(pod).plan
    assert (await device_.brought_home(pod)).files() == {"big.csv": BIG}
    assert sum(length for _, length in device_.cluster.patched) <= len(BIG) - 1_000_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"photo,z\n"),
        lambda path: os.truncate(path, 3),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"longer than the plan says"),
    ],
    ids=["other content", "shorter", "gone", "longer"],
)
async def test_files_that_are_not_what_the_plan_says_are_judged_anew(
    device_: Device, damage: Callable[[Path], object]
) -> None:
    """As after a power cut that took unsynced content, though the plan was kept."""
    pod = device_.pod(faces_csv="photo,x\n", stays_csv="1")
    (held,) = device_.table.waiting()
    Uploader(device_.table, Gateway(_nowhere(device_.settings)), concurrency=1)._make_plan(held)
    path = device_.table.spool.files(pod.volume_id) / "faces.csv"
    damage(path)
    expected = {"stays.csv": b"1"} | ({"faces.csv": path.read_bytes()} if path.exists() else {})
    assert (await device_.brought_home(pod)).files() == expected


def _nowhere(settings: Settings) -> Connection:
    return Connection("https://127.0.0.1:1", ca_file=settings.ca_file, token_file=settings.token_file, read_seconds=1)


def leave_hostile_things(root: Path, secret: Path) -> None:
    """What an app may leave in its folder, pointing to `secret`, a folder outside of it."""
    (root / "etc.csv").symlink_to("/etc/passwd")
    (root / "relative.csv").symlink_to("../../../../../../outside/secret.csv")
    (root / "itself.csv").symlink_to("itself.csv")
    (root / "folder").symlink_to(secret)
    os.link(secret / "secret.csv", root / "hard.csv")
    os.mkfifo(root / "fifo.csv")
    os.mknod(root / "disk.csv", 0o666 | 0o060000, os.makedev(7, 0))
    os.mknod(root / "zero.csv", 0o666 | 0o020000, os.makedev(1, 5))
    Path(os.fsdecode(bytes(root) + b"/\xff\xfe.csv")).write_text("x")
    (root / "\x1b[2J.csv").write_text("x")
    with (root / "huge.csv").open("wb") as huge:
        huge.truncate(2**43)
    folder = root
    for _ in range(5):
        folder /= "d" * 250
        folder.mkdir()
    (folder / ("n" * 250 + ".csv")).write_text("x")
    (root / ("f" * 150) / ("o" * 150)).mkdir(parents=True)
    (root / ("f" * 150) / ("o" * 150) / "long name.csv").write_text("300 bytes and more are fine")


async def test_hostile_outputs_come_home_without_the_hostile_part(device_: Device) -> None:
    """Whatever an app leaves: nothing of the device leaves with it, and the good files arrive."""
    secret = device_.settings.kubelet_root.parent / "outside"
    secret.mkdir()
    (secret / "secret.csv").write_text("secret")
    pod = Pod(device_.settings.kubelet_root, asked=outputs(max_files=5, size_limit_bytes=1000))
    publish(device_.table, pod, good_csv="good", truncated_csv='photo,x\n"1,')
    leave_hostile_things(pod.target, secret)
    device_.table.unpublish(pod.volume_id, pod.target)
    upload = await device_.brought_home(pod)
    assert upload.files() == {
        "good.csv": b"good",
        "truncated.csv": b'photo,x\n"1,',
        f"{'f' * 150}/{'o' * 150}/long name.csv": b"300 bytes and more are fine",
    }
    assert upload.manifest is not None
    assert upload.manifest.refused_count == 11
    assert upload.manifest.skipped == 1, "the linked folder, which no pattern means"
    reasons = {file.name: file.reason for file in upload.manifest.refused}
    assert reasons.pop("/".join(["d" * 250] * 5)[:1024]) == "BadName", "1,500 bytes"
    assert reasons == {
        "etc.csv": "Symlink",
        "relative.csv": "Symlink",
        "itself.csv": "Symlink",
        "hard.csv": "HardLink",
        "fifo.csv": "NotAFile",
        "disk.csv": "NotAFile",
        "zero.csv": "NotAFile",
        "\ufffd\ufffd.csv": "BadName",
        "\ufffd[2J.csv": "BadName",
        "huge.csv": "TooLarge",
    }
    assert b"secret" not in b"".join(upload.blobs.values())


async def test_a_volume_taken_back_while_it_is_sent_is_let_go(device_: Device) -> None:
    pod = device_.pod(big_csv=BIG)
    device_.cluster.faults.append(Fault("PATCH", keep_bytes=1_000_000))
    async with device_.uploading():
        await until(lambda: not device_.cluster.faults, "the upload to be cut")
        publish(device_.table, pod)
        assert (pod.target / "big.csv").read_bytes() == BIG
        await until(lambda: not device_.table.waiting(), "nothing to wait")
        (pod.target / "more.csv").write_text("more")
        assert device_.report(pod).state is VolumeState.LIVE
        device_.table.unpublish(pod.volume_id, pod.target)
    assert (await device_.brought_home(pod)).files() == {"big.csv": BIG, "more.csv": b"more"}
