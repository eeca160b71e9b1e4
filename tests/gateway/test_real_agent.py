"""The agent's own client against the real gateway: both sides read wire.py the same way."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgewise.gateway.bundle_store import Bundle
from edgewise_agent import bundles
from edgewise_agent.journal import BundleEntry
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Connection
from edgewise_agent.uplink.gateway import Conflict, Gateway, Refused, TooEarly, Unwanted
from edgewise_agent.wire import UploadStatus
from msgspec import json

from tests.gateway.sending import FACES, LOG
from tests.gateway.surroundings import JOB_UID, POD_UID, World, eventually, plan_of, sha256
from tests.gateway.tars import APP, tar_of


def agent_of(world: World, folder: Path, token: str) -> Gateway:
    """The client of an agent with that token, kept in `folder`."""
    return Gateway(connection_of(world, folder, token))


def connection_of(world: World, folder: Path, token: str) -> Connection:
    token_file = folder / token
    token_file.write_text(token)
    return Connection(world.url, ca_file=world.authority.file, token_file=token_file, read_seconds=10)


def blocks(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def bring_home(agent: Gateway) -> None:
    """One attempt, as the uploader sends it: a wrong offset on the way, bytes damaged on the way, then all right."""
    plan = plan_of({"faces.csv": FACES, "run.txt": LOG})
    (faces, log) = agent.put_plan(JOB_UID, POD_UID, plan).missing
    assert (faces.offset, log.offset) == (0, 0)
    sent = agent.patch(JOB_UID, POD_UID, faces.sha256, 0, 10, blocks(FACES[:10], 4))
    assert sent.offset == 10
    wrong = agent.patch(JOB_UID, POD_UID, faces.sha256, 4, len(FACES) - 4, blocks(FACES[4:], 4))
    assert wrong.offset == 10
    agent.patch(JOB_UID, POD_UID, faces.sha256, 10, len(FACES) - 10, blocks(FACES[10:], 4))
    with pytest.raises(Conflict, match="BytesMissing"):
        agent.complete(JOB_UID, POD_UID, plan)
    agent.patch(JOB_UID, POD_UID, log.sha256, 0, len(LOG), blocks(LOG.upper(), 100))
    with pytest.raises(Conflict, match="damaged on the way"):
        agent.complete(JOB_UID, POD_UID, plan)
    assert agent.put_plan(JOB_UID, POD_UID, plan).missing == (log,)
    agent.patch(JOB_UID, POD_UID, log.sha256, 0, len(LOG), blocks(LOG, 100))
    manifest = agent.complete(JOB_UID, POD_UID, plan)
    assert {file.sha256 for file in manifest.files} == {sha256(FACES), sha256(LOG)}
    assert agent.put_plan(JOB_UID, POD_UID, plan) == UploadStatus(missing=(), complete=True)


async def test_an_attempt_comes_home(world: World, tmp_path: Path) -> None:
    async with world.gateway():
        agent = agent_of(world, tmp_path, "agent-1")
        with pytest.raises(TooEarly, match="NotComplete"):
            await asyncio.to_thread(agent.status, JOB_UID, POD_UID)
        await asyncio.to_thread(bring_home, agent)

        async def settled() -> bool:
            return (await asyncio.to_thread(agent.status, JOB_UID, POD_UID)).settled

        await eventually(settled, "its device need keep no copy")


async def test_refusals_mean_what_the_agent_takes_them_for(world: World, tmp_path: Path) -> None:
    plan = plan_of({"faces.csv": FACES})
    async with world.gateway():
        agent = agent_of(world, tmp_path, "agent-1")
        with pytest.raises(TooEarly, match="NoPlan"):
            await asyncio.to_thread(agent.complete, JOB_UID, POD_UID, plan)
        with pytest.raises(Refused, match="AttemptMismatch"):
            await asyncio.to_thread(agent.put_plan, JOB_UID, POD_UID, plan_of({}, attempt=7))
        other = agent_of(world, tmp_path, "agent-2")
        with pytest.raises(Refused, match="NotYourPod"):
            await asyncio.to_thread(other.put_plan, JOB_UID, POD_UID, plan)
        world.api.jobs.clear()
        with pytest.raises(Unwanted, match="JobGone"):
            await asyncio.to_thread(agent.put_plan, JOB_UID, POD_UID, plan)


@pytest.mark.parametrize("range_bytes", [4096, 2**22])
async def test_a_bundle_goes_from_a_user_to_a_device(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, range_bytes: int
) -> None:
    """Also where the tar's length is a whole number of ranges, so that the last answer is a 416."""
    monkeypatch.setattr(bundles, "RANGE_BYTES", range_bytes)
    async with world.gateway(), world.client("ada") as user:
        async with user.put("/v1/namespaces/demo/bundles", data=tar_of(APP | {"fill": bytes(512)})) as response:
            bundle = json.decode(await response.read(), type=Bundle)
        assert bundle.tar_bytes % 4096 == 0
        connection = connection_of(world, tmp_path, "agent-1")
        settings = Settings(
            node_name="edge-1",
            operator_url=world.url,
            gateway_url=world.url,
            ca_file=world.authority.file,
            token_file=tmp_path / "agent-1",
            kubelet_root=tmp_path / "kubelet",
            free_space_floor_bytes=0,
        )
        device = bundles.Bundles(settings, connection)
        device.load()
        pod_uid = "22222222-2222-4222-8222-000000000001"
        entry = BundleEntry(
            volume_id="csi-1", target="", namespace="demo", pod_name="app", pod_uid=pod_uid, sha256=bundle.sha256
        )
        assert not device.claim(entry)
        while not await asyncio.to_thread(device.advance, "demo", bundle.sha256):
            pass
        place = settings.plugin_dir / "bundles" / f"demo.{bundle.sha256}"
        assert {name: (place / name).read_bytes() for name in APP} == APP
        assert device.held() == (f"demo/{bundle.sha256}",)
        await asyncio.to_thread(connection.close)
