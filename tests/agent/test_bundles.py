"""Bundles on a device: fetched once, verified, shared by pods, gone when room is needed, never half there."""

import asyncio
import hashlib
import io
import multiprocessing
import os
import tarfile
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from edgewise_agent import bundles as module
from edgewise_agent import tree
from edgewise_agent.bundles import Bundles, BundleUnavailable
from edgewise_agent.journal import KIND, BundleEntry, Journal
from edgewise_agent.settings import MIB, Settings
from edgewise_agent.volumes import csi, server
from edgewise_agent.volumes.csi import NodeService
from edgewise_agent.volumes.registration import RegistrationService
from edgewise_agent.volumes.table import LivePods, VolumeTable
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.agent.bundling import APP, AppPod, bundles_of, tar_of
from tests.agent.cluster import Cluster, Fault
from tests.agent.kubelet import Kubelet, Pod, connected


@asynccontextmanager
async def kubelet_of(settings: Settings) -> AsyncIterator[tuple[Kubelet, Bundles, VolumeTable]]:
    """An agent that has just started, and the kubelet that calls it."""
    table, bundles = VolumeTable(settings, lambda: None), bundles_of(settings)
    table.load()
    node = NodeService(settings, table, bundles)
    async with server.serve(settings, node, RegistrationService(settings)), connected(settings) as kubelet:
        yield kubelet, bundles, table


def offer(cluster: Cluster, files: dict[str, bytes], namespace: str = "demo") -> str:
    sha256, tar = tar_of(files)
    cluster.bundles[namespace, sha256] = tar
    return sha256


def entry_of(pod: AppPod) -> BundleEntry:
    return BundleEntry(
        volume_id=pod.volume_id,
        target=str(pod.target),
        namespace=pod.namespace,
        pod_name="app",
        pod_uid=pod.uid,
        sha256=pod.sha256,
    )


async def refusal(kubelet: Kubelet, pod: AppPod, **changes: object) -> GRPCError:
    with pytest.raises(GRPCError) as raised:
        await kubelet.publish(pod, **changes)
    return raised.value


async def test_a_pods_whole_life(reachable: Settings, cluster: Cluster) -> None:
    sha256 = offer(cluster, APP)
    pod = AppPod(reachable.kubelet_root, sha256=sha256)
    async with kubelet_of(reachable) as (kubelet, bundles, table):
        await kubelet.publish(pod)
        assert pod.files() == APP
        modes = {path.name: path.stat().st_mode & 0o777 for path in pod.target.rglob("*")}
        assert modes == {"main.py": 0o444, "run.sh": 0o555, "lib": 0o755, "model.bin": 0o444}
        assert table.live() == []
        assert table.reports() == ()
        assert bundles.held() == (f"demo/{sha256}",)
        await kubelet.publish(pod)
        await kubelet.unpublish(pod)
        await kubelet.unpublish(pod)
        assert not pod.target.exists()
        assert table.waiting() == []
        assert bundles.entry(pod.volume_id) is None
        assert list(reachable.plugin_dir.glob("spool/*")) + list(reachable.plugin_dir.glob("journal/*")) == []


async def test_a_second_pod_needs_no_gateway_even_after_a_restart(reachable: Settings, cluster: Cluster) -> None:
    sha256 = offer(cluster, APP)
    first, second = (AppPod(reachable.kubelet_root, number, sha256=sha256) for number in (1, 2))
    async with kubelet_of(reachable) as (kubelet, _, _):
        await kubelet.publish(first)
    asked = len(cluster.requests)
    async with kubelet_of(replace(reachable, gateway_url="https://127.0.0.1:1")) as (kubelet, bundles, _):
        await kubelet.publish(second)
        assert second.files() == APP
        await kubelet.unpublish(first)
        assert second.files() == APP
        assert bundles.entry(second.volume_id) is not None
    assert len(cluster.requests) == asked


async def test_pods_that_come_together_fetch_it_once(reachable: Settings, cluster: Cluster) -> None:
    sha256 = offer(cluster, APP)
    pods = [AppPod(reachable.kubelet_root, number, sha256=sha256) for number in range(1, 5)]
    async with kubelet_of(reachable) as (kubelet, _, _):
        await asyncio.gather(*(kubelet.publish(pod) for pod in pods))
    assert [pod.files() for pod in pods] == [APP] * 4
    assert len(cluster.ranges) == 1


async def test_while_it_cannot_be_fetched_the_pod_waits(reachable: Settings, cluster: Cluster) -> None:
    sha256 = tar_of(APP)[0]
    pod = AppPod(reachable.kubelet_root, sha256=sha256)
    async with kubelet_of(reachable) as (kubelet, _, _):
        error = await refusal(kubelet, pod)
        assert error.status is Status.UNAVAILABLE
        assert f"bundle sha256:{sha256} of namespace demo is not here yet" in (error.message or "")
        assert "NoSuchBundle" in (error.message or "")
        # Known by now, so never a final error, whatever is asked.
        assert (await refusal(kubelet, pod, readonly=False)).status is Status.UNAVAILABLE
        offer(cluster, APP)
        await kubelet.publish(pod)
        assert pod.files() == APP


async def test_a_pod_that_is_deleted_while_it_waits_leaves_nothing(reachable: Settings, cluster: Cluster) -> None:
    pod = AppPod(reachable.kubelet_root, sha256=tar_of(APP)[0])
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        await refusal(kubelet, pod)
        await kubelet.unpublish(pod)
        assert bundles.entry(pod.volume_id) is None
        assert not pod.target.exists()


async def test_a_fetch_goes_on_where_it_was_cut(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANGE_BYTES", 4096)
    sha256 = offer(cluster, APP)
    cluster.faults = [Fault("GET", status=503)]
    pod = AppPod(reachable.kubelet_root, sha256=sha256)
    async with kubelet_of(reachable) as (kubelet, _, _):
        assert (await refusal(kubelet, pod)).status is Status.UNAVAILABLE
        cluster.faults = [Fault("GET", status=206, body=cluster.bundles["demo", sha256][:4096]), Fault("GET")]
        assert (await refusal(kubelet, pod)).status is Status.UNAVAILABLE
    async with kubelet_of(reachable) as (kubelet, _, _):
        await kubelet.publish(pod)
        assert pod.files() == APP
    assert cluster.ranges[0] == "bytes=4096-8191"


async def test_what_came_of_a_bundle_that_nobody_waits_for_goes(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANGE_BYTES", 4096)
    sha256 = offer(cluster, APP)
    cluster.faults = [Fault("GET", status=206, body=cluster.bundles["demo", sha256][:4096]), Fault("GET")]
    deleted, other = AppPod(reachable.kubelet_root, 1, sha256=sha256), offer(cluster, {"main.py": b""})
    async with kubelet_of(reachable) as (kubelet, _, _):
        await refusal(kubelet, deleted)
        incoming = reachable.plugin_dir / "bundles/.fetching"
        assert [part.stat().st_size for part in incoming.iterdir()] == [4096]
        await kubelet.unpublish(deleted)
        await kubelet.publish(AppPod(reachable.kubelet_root, 2, sha256=other))
        assert list(incoming.iterdir()) == []


async def test_damaged_bytes_are_never_used(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = offer(cluster, APP)
    whole = cluster.bundles["demo", sha256]
    cluster.bundles["demo", sha256] = b"\1" + whole[1:]
    pod = AppPod(reachable.kubelet_root, sha256=sha256)
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        error = await refusal(kubelet, pod)
        assert "fetching it anew" in (error.message or "")
        assert not pod.target.exists()
        assert bundles.held() == ()
        cluster.bundles["demo", sha256] = whole
        await kubelet.publish(pod)
        assert pod.files() == APP


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "a//b", "p" * 2000])
async def test_names_are_checked_again(reachable: Settings, cluster: Cluster, name: str) -> None:
    sha256 = offer(cluster, {name: b"evil"})
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        error = await refusal(kubelet, AppPod(reachable.kubelet_root, sha256=sha256))
        assert error.status is Status.UNAVAILABLE
        assert "can't be read" in (error.message or "")
        assert bundles.held() == ()
    folder = reachable.plugin_dir / "bundles"
    assert list(folder.iterdir()) == [folder / ".fetching"]


def _link(archive: tarfile.TarFile, kind: bytes) -> None:
    entry = tarfile.TarInfo("thing")
    entry.type, entry.linkname = kind, "/etc/passwd"
    archive.addfile(entry)


def _long_header(archive: tarfile.TarFile, kind: bytes) -> None:
    entry = tarfile.TarInfo("thing")
    entry.type, entry.size = kind, module.MOST_EXTENDED_BYTES + 1
    archive.addfile(entry, io.BytesIO(bytes(entry.size)))


def _sparse(archive: tarfile.TarFile, kind: bytes) -> None:
    entry = tarfile.TarInfo("thing")
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    entry.size = 512
    archive.addfile(entry, io.BytesIO(b"0\n".ljust(512, b"\0")))


@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (_link, tarfile.SYMTYPE),
        (_link, tarfile.LNKTYPE),
        (_link, tarfile.CHRTYPE),
        (_link, tarfile.FIFOTYPE),
        (_long_header, tarfile.XHDTYPE),
        (_long_header, tarfile.GNUTYPE_LONGNAME),
        (_sparse, tarfile.REGTYPE),
    ],
)
async def test_only_plain_files_are_unpacked(
    reachable: Settings, cluster: Cluster, put: Callable[[tarfile.TarFile, bytes], None], kind: bytes
) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        put(archive, kind)
    sha256 = hashlib.sha256(made.getvalue()).hexdigest()
    cluster.bundles["demo", sha256] = made.getvalue()
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        error = await refusal(kubelet, AppPod(reachable.kubelet_root, sha256=sha256))
        assert "can't be read" in (error.message or "")
        assert bundles.held() == ()
    folder = reachable.plugin_dir / "bundles"
    assert list(folder.rglob("*")) == [folder / ".fetching"]


@pytest.mark.parametrize("files", [{"model": bytes(16 * MIB)}, {f"{one:04}": b"" for one in range(9_000)}])
async def test_memory_does_not_grow_with_the_bundle(
    reachable: Settings, cluster: Cluster, files: dict[str, bytes]
) -> None:
    """Neither with the size of its files nor with their number. All of it has come but for the gateway's last word."""
    pod = AppPod(reachable.kubelet_root, sha256=offer(cluster, files))
    bundles_of(reachable).claim(entry_of(pod))
    reachable.plugin_dir.joinpath(f"bundles/.fetching/demo.{pod.sha256}.tar").write_bytes(
        cluster.bundles["demo", pod.sha256]
    )
    processes = multiprocessing.get_context("spawn")
    answer, child_end = processes.Pipe(duplex=False)
    child = processes.Process(target=_advance, args=(reachable, pod.sha256, child_end))
    child.start()
    child_end.close()
    try:
        held, peak = await asyncio.to_thread(answer.recv)
    finally:
        await asyncio.to_thread(child.join)
    assert held == (f"demo/{pod.sha256}",)
    assert peak < 2 * MIB


def _advance(settings: Settings, sha256: str, answer: Connection) -> None:
    """One step of a fetch in a process of its own.

    Nothing else's memory is in its peak: a fork would have the tests' own table of interned names, which may grow by
    some MiB for the one name that is too many for it.
    """
    bundles = bundles_of(settings)
    tracemalloc.start()
    assert bundles.advance("demo", sha256)
    peak = tracemalloc.get_traced_memory()[1]
    answer.send((bundles.held(), peak))


async def test_a_large_bundle_holds_no_small_one_back(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANGE_BYTES", 4096)
    large, small = offer(cluster, {"model": bytes(MIB)}), offer(cluster, {"main.py": b""})
    pods = [AppPod(reachable.kubelet_root, number, sha256=sha) for number, sha in enumerate((large, small), 1)]
    async with kubelet_of(reachable) as (kubelet, _, _):
        await asyncio.gather(*(kubelet.publish(pod) for pod in pods))
    asked = [path.rpartition(":")[2] for _, path in cluster.requests]
    assert asked.count(large) > 256
    assert asked.index(small) < 256, "the small one is asked for before the large one has come"


async def test_a_stuck_fetch_holds_no_other_volume_back(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, stuck = offer(cluster, APP), offer(cluster, {"main.py": b""})
    pods = [AppPod(reachable.kubelet_root, number, sha256=sha) for number, sha in enumerate((here, here, stuck), 1)]
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        await kubelet.publish(pods[0])
        cluster.silent = True
        monkeypatch.setattr(csi, "WAIT_SECONDS", 0.01)
        error = await refusal(kubelet, pods[2])
        assert error.status is Status.UNAVAILABLE
        assert "is being fetched, 0 bytes are here so far" in (error.message or "")
        await kubelet.publish(pods[1])
        assert pods[1].files() == APP
        outputs = Pod(reachable.kubelet_root, 9)
        await kubelet.publish(outputs)
        await kubelet.unpublish(outputs)
        assert bundles.held() == (f"demo/{here}",)
        cluster.silent = False


def test_a_slow_disk_holds_no_question_back(reachable: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What beats and other volumes ask is answered while files are linked into a pod."""
    pod = AppPod(reachable.kubelet_root, sha256="a" * 64)
    reachable.plugin_dir.joinpath(f"bundles/demo.{pod.sha256}").mkdir(parents=True)
    bundles = bundles_of(reachable)
    answers: list[tuple[tuple[str, ...], BundleEntry | None]] = []

    def slow(*_: Path) -> None:
        other = threading.Thread(target=lambda: answers.append((bundles.held(), bundles.entry("other"))), daemon=True)
        other.start()
        other.join(10)

    monkeypatch.setattr(module, "_mirror", slow)
    pod.volume_dir.mkdir(parents=True)
    assert bundles.claim(entry_of(pod))
    bundles.publish(entry_of(pod))
    assert answers == [((f"demo/{pod.sha256}",), None)]


async def test_outputs_come_before_idle_bundles_where_space_is_short(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(reachable, free_space_floor_bytes=10 * MIB)
    used, idle, more = (offer(cluster, {"main.py": bytes([one])}) for one in range(3))
    pods = [AppPod(settings.kubelet_root, number, sha256=sha) for number, sha in enumerate((used, idle, more), 1)]
    monkeypatch.setattr(module, "free_bytes", lambda _: 100 * MIB)
    async with kubelet_of(settings) as (kubelet, bundles, _):
        await kubelet.publish(pods[0])
        await kubelet.publish(pods[1])
        await kubelet.unpublish(pods[1])
        bundles.give_way()
        assert set(bundles.held()) == {f"demo/{used}", f"demo/{idle}"}
        monkeypatch.setattr(module, "free_bytes", lambda _: 10 * MIB - 1)
        bundles.give_way()
        assert bundles.held() == (f"demo/{used}",)
        assert pods[0].files() == {"main.py": b"\0"}
        monkeypatch.setattr(module, "free_bytes", lambda _: 10 * MIB + 1000)
        error = await refusal(kubelet, pods[2])
        assert error.status is Status.UNAVAILABLE
        assert "must stay free" in (error.message or "")


async def test_small_files_count_with_what_they_take_on_the_disk(reachable: Settings, cluster: Cluster) -> None:
    """5,000 files of a byte each take 20 MiB of blocks."""
    settings = replace(reachable, bundle_cache_bytes=16 * MIB)
    sha256 = offer(cluster, {f"{one:04}": b"1" for one in range(5_000)})
    async with kubelet_of(settings) as (kubelet, _, _):
        error = await refusal(kubelet, AppPod(settings.kubelet_root, sha256=sha256))
    assert "agent.bundles.cacheBytes" in (error.message or "")


async def test_nothing_more_is_fetched_for_a_pod_that_is_gone(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANGE_BYTES", 4096)
    pod, bundles = AppPod(reachable.kubelet_root, sha256=offer(cluster, APP)), bundles_of(reachable)
    bundles.claim(entry_of(pod))
    assert not await asyncio.to_thread(bundles.advance, "demo", pod.sha256)
    bundles.unpublish(pod.volume_id)
    with pytest.raises(BundleUnavailable, match="no pod waits for it"):
        bundles.advance("demo", pod.sha256)
    assert len(cluster.ranges) == 1


async def test_another_namespace_must_fetch_it_itself(reachable: Settings, cluster: Cluster) -> None:
    sha256 = offer(cluster, APP)
    async with kubelet_of(reachable) as (kubelet, _, _):
        await kubelet.publish(AppPod(reachable.kubelet_root, 1, sha256=sha256))
        error = await refusal(kubelet, AppPod(reachable.kubelet_root, 2, sha256=sha256, namespace="other"))
        assert "of namespace other is not here yet" in (error.message or "")


@pytest.mark.parametrize(
    ("changes", "told"), [({"readonly": False}, "add readOnly: true"), ({"target_path": "/etc/x"}, "is not below")]
)
async def test_a_new_volume_that_breaks_a_rule(settings: Settings, changes: dict[str, object], told: str) -> None:
    pod = AppPod(settings.kubelet_root, sha256=tar_of(APP)[0])
    async with kubelet_of(settings) as (kubelet, bundles, _):
        error = await refusal(kubelet, pod, **changes)
        assert error.status is Status.INVALID_ARGUMENT
        assert told in (error.message or "")
        assert (
            await refusal(kubelet, AppPod(settings.kubelet_root, sha256="latest"))
        ).status is Status.INVALID_ARGUMENT
        assert bundles.entry(pod.volume_id) is None


async def test_the_longest_unwanted_makes_room_and_none_in_use(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles of 2 MiB, each of which needs 5 MiB while it is fetched."""
    monkeypatch.setattr(module, "RANGE_BYTES", MIB // 2)
    settings = replace(reachable, bundle_cache_bytes=15 * MIB // 2)
    old, used, new, more = (offer(cluster, {"blob": bytes([number]) * 2 * MIB}) for number in range(4))
    pods = [AppPod(settings.kubelet_root, number, sha256=sha) for number, sha in enumerate((old, used, new, more))]
    async with kubelet_of(settings) as (kubelet, bundles, _):
        await kubelet.publish(pods[1])
        await kubelet.publish(pods[0])
        await kubelet.unpublish(pods[0])
        assert set(bundles.held()) == {f"demo/{one}" for one in (old, used)}
        await kubelet.publish(pods[2])
        assert set(bundles.held()) == {f"demo/{one}" for one in (used, new)}
        error = await refusal(kubelet, pods[3])
        assert error.status is Status.UNAVAILABLE
        assert "agent.bundles.cacheBytes" in (error.message or "")
        await kubelet.unpublish(pods[1])
        await kubelet.publish(pods[3])
        assert set(bundles.held()) == {f"demo/{one}" for one in (new, more)}


async def test_bundles_that_are_fetched_in_turn_do_not_block_each_other(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of 2 MiB, where there is room to fetch one, but not to have both."""
    monkeypatch.setattr(module, "RANGE_BYTES", MIB // 4)
    settings = replace(reachable, bundle_cache_bytes=5 * MIB)
    first, second = (
        AppPod(settings.kubelet_root, number, sha256=offer(cluster, {"blob": bytes([number]) * 2 * MIB}))
        for number in (1, 2)
    )
    bundles = bundles_of(settings)

    def fetch_in_turn() -> None:
        for pod in (first, second) * 20:
            with suppress(BundleUnavailable):
                bundles.advance("demo", pod.sha256)

    bundles.claim(entry_of(first))
    bundles.claim(entry_of(second))
    await asyncio.to_thread(fetch_in_turn)
    assert bundles.held() == (f"demo/{first.sha256}",)
    bundles.unpublish(first.volume_id)
    await asyncio.to_thread(fetch_in_turn)
    assert bundles.held() == (f"demo/{second.sha256}",)


async def test_what_has_come_of_others_is_kept_where_its_room_is_not_enough(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANGE_BYTES", MIB // 4)
    settings = replace(reachable, bundle_cache_bytes=9 * MIB // 4)
    large, small = (
        AppPod(settings.kubelet_root, number, sha256=offer(cluster, {"blob": bytes([number]) * size}))
        for number, size in ((1, 4 * MIB), (2, MIB // 2))
    )
    bundles = bundles_of(settings)
    bundles.claim(entry_of(large))
    bundles.claim(entry_of(small))

    def fetch_large() -> None:
        while not bundles.advance("demo", large.sha256):
            pass

    await asyncio.to_thread(bundles.advance, "demo", small.sha256)
    with pytest.raises(BundleUnavailable, match="cacheBytes"):
        await asyncio.to_thread(fetch_large)
    assert bundles.come("demo", small.sha256) == MIB // 4


async def test_a_power_cut_while_it_is_unpacked_leaves_no_half_bundle(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever call forces something to disk is the last one: what has the bundle's name afterwards is whole."""
    sha256 = offer(cluster, APP)
    place = reachable.plugin_dir / "bundles" / f"demo.{sha256}"
    bundles_of(reachable).claim(entry_of(AppPod(reachable.kubelet_root, sha256=sha256)))
    real, calls = os.fsync, 0

    for crash_at in range(1, 9):
        calls = 0

        def fsync(descriptor: int, crash_at: int = crash_at) -> None:
            nonlocal calls
            calls += 1
            if calls == crash_at:
                raise OSError(5, "the power is cut")
            real(descriptor)

        bundles = bundles_of(reachable)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                await asyncio.to_thread(bundles.advance, "demo", sha256)
            except BundleUnavailable:
                assert calls == crash_at
        found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        assert found in ({}, APP)
        if found:
            tree.remove(place)
    assert calls < 8


async def test_a_volume_whose_pod_is_gone_is_taken_back(reachable: Settings, cluster: Cluster) -> None:
    pod = AppPod(reachable.kubelet_root, sha256=offer(cluster, APP))
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        await kubelet.publish(pod)
        pod.record.write_bytes(b"")
        bundles.reconcile(LivePods(frozenset({pod.uid}), 10.0))
        assert b"volumeHandle" in pod.record.read_bytes()
        bundles.reconcile(LivePods(frozenset(), 11.0))
        assert pod.files() == APP
        bundles.reconcile(LivePods(frozenset(), 12.0))
        assert not pod.volume_dir.exists()
        assert bundles.entry(pod.volume_id) is None


async def test_a_record_that_kubelet_can_read_is_left_to_kubelet(reachable: Settings, cluster: Cluster) -> None:
    """A pod that was deleted by force is gone from the API before kubelet has torn it down."""
    pod = AppPod(reachable.kubelet_root, sha256=offer(cluster, APP))
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        await kubelet.publish(pod)
        for at in (10.0, 12.0):
            bundles.reconcile(LivePods(frozenset(), at))
        assert bundles.entry(pod.volume_id) is None
        assert pod.record.exists()
        await kubelet.unpublish(pod)


async def test_the_journal_keeps_the_kinds_apart(reachable: Settings, cluster: Cluster) -> None:
    pod = AppPod(reachable.kubelet_root, sha256=offer(cluster, APP))
    async with kubelet_of(reachable) as (kubelet, bundles, _):
        await kubelet.publish(pod)
        entry = bundles.entry(pod.volume_id)
    journal = Journal(reachable.plugin_dir / "journal")
    assert journal.load() == []
    assert journal.load_bundles() == [entry]
    assert entry is not None
    assert entry.kind != KIND
    assert hashlib.sha256(cluster.bundles["demo", entry.sha256]).hexdigest() == entry.sha256
