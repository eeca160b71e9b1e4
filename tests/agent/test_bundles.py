"""Bundles on a device: fetched once, verified, shared by pods, gone when room is needed, never half there."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from edgewise_agent import bundles as module
from edgewise_agent import tree
from edgewise_agent.bundles import Bundles, BundleUnavailable
from edgewise_agent.journal import KIND, Journal
from edgewise_agent.settings import MIB, Settings
from edgewise_agent.volumes import server
from edgewise_agent.volumes.csi import NodeService
from edgewise_agent.volumes.registration import RegistrationService
from edgewise_agent.volumes.table import LivePods, VolumeTable
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.agent.bundling import APP, AppPod, bundles_of, tar_of
from tests.agent.cluster import Cluster, Fault
from tests.agent.kubelet import Kubelet, connected


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
        assert bundles.held() == (sha256,)
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
        assert set(bundles.held()) == {old, used}
        await kubelet.publish(pods[2])
        assert set(bundles.held()) == {used, new}
        error = await refusal(kubelet, pods[3])
        assert error.status is Status.UNAVAILABLE
        assert "agent.bundles.cacheBytes" in (error.message or "")
        await kubelet.unpublish(pods[1])
        await kubelet.publish(pods[3])
        assert set(bundles.held()) == {new, more}


async def test_where_links_cannot_be_made_files_are_copied(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, to: Path) -> None:
        raise OSError(18, f"{to} is on another device")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    pod = AppPod(reachable.kubelet_root, sha256=offer(cluster, APP))
    async with kubelet_of(reachable) as (kubelet, _, _):
        await kubelet.publish(pod)
    assert pod.files() == APP
    assert pod.target.joinpath("main.py").stat().st_mode & 0o777 == 0o444


async def test_a_power_cut_while_it_is_unpacked_leaves_no_half_bundle(
    reachable: Settings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever call forces something to disk is the last one: what has the bundle's name afterwards is whole."""
    sha256 = offer(cluster, APP)
    place = reachable.plugin_dir / "bundles" / f"demo.{sha256}"
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
                await asyncio.to_thread(bundles.fetch, "demo", sha256)
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
