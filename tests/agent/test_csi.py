"""The plugin as kubelet calls it: real gRPC over unix sockets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edgewise_agent.bundles import Bundles
from edgewise_agent.settings import MIB, Settings
from edgewise_agent.volumes import server
from edgewise_agent.volumes.csi import NodeService
from edgewise_agent.volumes.proto import csi_pb2 as csi
from edgewise_agent.volumes.registration import RegistrationService
from edgewise_agent.volumes.table import VolumeTable
from edgewise_agent.wire import VolumeState
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.agent.kubelet import Kubelet, Pod, connected, outputs, register

FINAL = frozenset(Status) - {
    Status.OK,
    Status.CANCELLED,
    Status.DEADLINE_EXCEEDED,
    Status.UNAVAILABLE,
    Status.RESOURCE_EXHAUSTED,
    Status.ABORTED,
}
"""What kubelet takes as the end of an operation (csi_client.go's isFinalError): it then removes the folder."""


@pytest.fixture
async def kubelet(settings: Settings, table: VolumeTable, bundles: Bundles) -> AsyncIterator[Kubelet]:
    """A kubelet connected to a served plugin."""
    async with (
        server.serve(settings, NodeService(settings, table, bundles), RegistrationService(settings)),
        connected(settings) as client,
    ):
        yield client


@pytest.fixture
def pod(settings: Settings) -> Pod:
    return Pod(settings.kubelet_root)


async def refusal(publishing: Any) -> GRPCError:
    with pytest.raises(GRPCError) as raised:
        await publishing
    return raised.value


async def test_registration(settings: Settings, table: VolumeTable, bundles: Bundles) -> None:
    registration = RegistrationService(settings)
    async with server.serve(settings, NodeService(settings, table, bundles), registration):
        info = await register(settings)
        assert (info.type, info.name, list(info.supported_versions)) == (
            "CSIPlugin",
            "outputs.edgewise.dev",
            ["1.0.0"],
        )
        assert info.endpoint == str(settings.plugin_socket)
        assert registration.registered is True
        await register(settings, accepted=False)
        assert registration.registered is False
    assert not settings.registration_socket.exists()
    assert not settings.plugin_socket.exists()


async def test_a_socket_left_by_a_killed_agent_is_replaced(
    settings: Settings, table: VolumeTable, bundles: Bundles
) -> None:
    node, registration = NodeService(settings, table, bundles), RegistrationService(settings)
    abandoned = await asyncio.start_unix_server(lambda _, writer: writer.close(), _made(settings.plugin_socket))
    abandoned.close()
    await abandoned.wait_closed()
    async with server.serve(settings, node, registration), connected(settings) as kubelet:
        assert await kubelet.call("/csi.v1.Identity/Probe", csi.ProbeRequest(), csi.ProbeResponse) is not None


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


async def test_identity_and_node(kubelet: Kubelet) -> None:
    info = await kubelet.call("/csi.v1.Identity/GetPluginInfo", csi.GetPluginInfoRequest(), csi.GetPluginInfoResponse)
    assert info.name == "outputs.edgewise.dev"
    assert info.vendor_version
    node = await kubelet.call("/csi.v1.Node/NodeGetInfo", csi.NodeGetInfoRequest(), csi.NodeGetInfoResponse)
    assert node.node_id == "edge-1"
    for method, request, reply in (
        ("Identity/GetPluginCapabilities", csi.GetPluginCapabilitiesRequest(), csi.GetPluginCapabilitiesResponse),
        ("Node/NodeGetCapabilities", csi.NodeGetCapabilitiesRequest(), csi.NodeGetCapabilitiesResponse),
    ):
        assert (await kubelet.call(f"/csi.v1.{method}", request, reply)).SerializeToString() == b""


async def test_a_pods_whole_life(kubelet: Kubelet, pod: Pod, table: VolumeTable) -> None:
    await kubelet.run(pod, faces_csv="photo,x\n")
    (held,) = table.waiting()
    assert held.entry.namespace == "demo"
    assert held.entry.asked == pod.asked
    assert (table.spool.files(pod.volume_id) / "faces.csv").read_text() == "photo,x\n"


async def test_repeated_and_simultaneous_calls(kubelet: Kubelet, pod: Pod, table: VolumeTable) -> None:
    await asyncio.gather(*(kubelet.publish(pod) for _ in range(5)))
    pod.write(a_csv="1")
    await asyncio.gather(*(kubelet.unpublish(pod) for _ in range(5)))
    await kubelet.unpublish(pod)
    assert [held.state for held in table.waiting()] == [VolumeState.SPOOLED]
    assert (table.spool.files(pod.volume_id) / "a.csv").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target_path": "/etc/mount"}, "is not below"),
        ({"target_path": "{root}/pods/../plugins/x/mount"}, "is not below"),
        ({"target_path": "{root}/pods"}, "is not below"),
        ({"volume_id": "../../etc"}, "volume id '../../etc'"),
        ({"volume_id": ""}, "volume id ''"),
        ({"readonly": True}, "leave readOnly out"),
        ({"volume_capability": csi.VolumeCapability(block=csi.VolumeCapability.BlockVolume())}, "no block volumes"),
    ],
)
async def test_requests_that_break_a_rule(kubelet: Kubelet, pod: Pod, changes: dict[str, Any], told: str) -> None:
    if "target_path" in changes:
        changes = {"target_path": changes["target_path"].format(root=pod.kubelet_root)}
    error = await refusal(kubelet.publish(pod, **changes))
    assert error.status is Status.INVALID_ARGUMENT
    assert told in (error.message or "")


@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("csi.storage.k8s.io/ephemeral", "false", "written inline in a pod only (pod demo/faces-3f2a1-1)"),
        ("csi.storage.k8s.io/pod.uid", None, "the CSIDriver needs podInfoOnMount"),
        ("jobUid", None, "agent and operator must be of one release"),
        ("jobUid", "not-a-uid", "attributes that the agent can't use"),
        ("attempt", "0", "attributes that the agent can't use"),
        ("include", "*.csv", "attributes that the agent can't use"),
        ("maxFiles", "-1", "attributes that the agent can't use"),
        ("collect", "Hourly", "this agent knows AtEnd, OnClose"),
    ],
)
async def test_attributes_that_break_a_rule(
    kubelet: Kubelet, pod: Pod, attribute: str, value: str | None, told: str
) -> None:
    attributes = {key: text for key, text in pod.attributes().items() if key != attribute}
    if value is not None:
        attributes[attribute] = value
    error = await refusal(kubelet.publish(pod, volume_context=attributes))
    assert error.status is Status.INVALID_ARGUMENT
    assert told in (error.message or "")
    assert not pod.target.exists()


async def test_an_existing_volume_never_gets_a_final_error(
    kubelet: Kubelet, pod: Pod, table: VolumeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kubelet.publish(pod)
    await kubelet.publish(pod, volume_context={})
    await kubelet.publish(pod, readonly=True)
    moved = await refusal(kubelet.publish(pod, target_path=str(pod.volume_dir / "elsewhere")))
    assert moved.status is Status.ABORTED

    for error in (OSError(5, "Input/output error"), KeyError("a bug")):

        def fail(_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(table, "publish", fail)
        failed = await refusal(kubelet.publish(pod))
        assert failed.status is Status.UNAVAILABLE
        assert failed.status not in FINAL
    assert pod.target.is_dir()


async def test_a_full_spool_is_no_final_error(settings: Settings, bundles: Bundles) -> None:
    small = replace(settings, spool_limit_bytes=MIB)
    table = VolumeTable(small, lambda: None)
    first, second = Pod(settings.kubelet_root, 1), Pod(settings.kubelet_root, 2)
    async with (
        server.serve(small, NodeService(small, table, bundles), RegistrationService(small)),
        connected(small) as kubelet,
    ):
        await kubelet.run(first, a_csv="x" * MIB)
        (held,) = table.waiting()
        table.note_size(held, table.spool.size(first.volume_id))
        error = await refusal(kubelet.publish(second))
        assert error.status is Status.RESOURCE_EXHAUSTED
        assert "bytes of results wait to be sent" in (error.message or "")
        # kubelet is not sure that nothing happened, and unpublishes when the pod is deleted
        await kubelet.unpublish(second)
        assert [report.pod_uid for report in table.reports()] == [first.uid]


async def test_unpublish_outside_of_the_pods_is_refused(kubelet: Kubelet, pod: Pod, device: Path) -> None:
    (device / "precious").mkdir()
    request = csi.NodeUnpublishVolumeRequest(volume_id=pod.volume_id, target_path=str(device / "precious"))
    error = await refusal(kubelet.call("/csi.v1.Node/NodeUnpublishVolume", request, csi.NodeUnpublishVolumeResponse))
    assert error.status is Status.INVALID_ARGUMENT
    assert (device / "precious").is_dir()


async def test_a_hostile_pod_can_ask_but_not_pretend(kubelet: Kubelet, settings: Settings, table: VolumeTable) -> None:
    """A user's attributes are merged under kubelet's own, which name the pod; the rest is bounded."""
    pod = Pod(settings.kubelet_root, asked=outputs(max_files=100_000, size_limit_bytes=2**53 - 1))
    await kubelet.publish(pod)
    (held,) = table.live()
    assert held.entry.pod_uid == pod.uid
    greedy = outputs().to_attributes() | {"maxFiles": "100001"}
    error = await refusal(kubelet.publish(Pod(settings.kubelet_root, 2), volume_context=pod.attributes() | greedy))
    assert error.status is Status.INVALID_ARGUMENT
