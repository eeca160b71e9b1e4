"""The agent's own uploader against the real gateway, over a cable that is cut at any byte, and with tokens that expire.

Nothing that the gateway has acknowledged is ever asked for again, and what comes home is what was written.
"""

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from edgewise.kube import tokens
from edgewise_agent import uploader as module
from edgewise_agent.backoff import Backoff
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Connection
from edgewise_agent.uplink.gateway import Gateway
from edgewise_agent.uplink.pace import Pace
from edgewise_agent.uploader import CHUNK_BYTES, Uploader
from edgewise_agent.volumes.table import VolumeTable
from edgewise_agent.wire import VolumeReport, VolumeState

from tests.agent.kubelet import JOB_UID, Pod
from tests.agent.test_table import publish
from tests.agent.waiting import until
from tests.figures import Figures, Tally
from tests.gateway.cable import Cable
from tests.gateway.reading import JOB, published
from tests.gateway.surroundings import AGENT, Token, World, sha256

NOWHERE = "https://localhost:1"
FILES = {"big.csv": os.urandom(300_000), "small.csv": b"photo,x\n1,2\n", "copy.csv": b"photo,x\n1,2\n", "none.csv": b""}


class Sender:
    """The agent of edge-1 as far as results go: its volume table, its token and its uploader."""

    def __init__(self, world: World, folder: Path) -> None:
        self.token_file = folder / "agent-token"
        self.token_file.write_text("agent-1")
        self._settings = Settings(
            node_name="edge-1",
            operator_url=NOWHERE,
            gateway_url=NOWHERE,
            ca_file=world.authority.file,
            token_file=self.token_file,
            kubelet_root=folder / "kubelet",
            free_space_floor_bytes=0,
        )
        self._table = VolumeTable(self._settings, lambda: None)
        self._table.load()
        self._pod = Pod(self._settings.kubelet_root)
        attempt = {"number": 1, "node": "edge-1", "podName": self._pod.name, "podUID": self._pod.uid}
        world.api.add_job(JOB_UID, [attempt])

    def write(self, files: dict[str, bytes]) -> None:
        """The pod writes these and ends."""
        publish(self._table, self._pod)
        for name, content in files.items():
            (self._pod.target / name).write_bytes(content)
        self._table.unpublish(self._pod.volume_id, self._pod.target)

    def report(self) -> VolumeReport:
        (report,) = self._table.reports()
        return report

    @asynccontextmanager
    async def sending(self, url: str, pace: Pace) -> AsyncIterator[None]:
        """The uploader runs for the block."""
        settings = self._settings
        connection = Connection(url, ca_file=settings.ca_file, token_file=settings.token_file, read_seconds=10)
        task = asyncio.create_task(Uploader(self._table, Gateway(connection, pace), concurrency=1).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await asyncio.to_thread(connection.close)

    async def bring_home(self, url: str) -> None:
        """Send until the gateway has acknowledged all."""
        async with self.sending(url, Pace(0)):
            await until(lambda: self.report().state is VolumeState.DONE, "the results to come home", 60)


@pytest.fixture
def sender(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sender:
    """An agent that tries again soon."""
    monkeypatch.setattr(module, "Backoff", lambda _first, _most: Backoff(0.002, 0.01))
    return Sender(world, tmp_path)


class Acknowledged:
    """What the gateway holds of each content by its own record, which must never become less."""

    def __init__(self, world: World, files: dict[str, bytes]) -> None:
        self._world = world
        self._sizes = {sha256(content): len(content) for content in files.values()}
        self._offsets: dict[str, int] = {}
        self.interrupted: set[str] = set()
        self.went_back = False

    def check(self) -> None:
        """Compare the records with those of the last time."""
        for record in self._world.on_volume("staging/*/*/*.offset"):
            try:
                offset = int(record.read_text() or "0")
            except FileNotFoundError:  # complete, and moved to its place
                continue
            self.went_back |= offset < self._offsets.get(record.stem, 0)
            self._offsets[record.stem] = offset
            if 0 < offset < self._sizes[record.stem]:
                self.interrupted.add(record.stem)


async def read_back(world: World, files: dict[str, bytes]) -> int:
    """Assert that a user gets these files, byte by byte, and no others; how many they are."""
    async with world.client("ada") as user:
        assert {file.name for file in (await published(user)).files} == set(files)
        for name, content in files.items():
            async with user.get(f"{JOB}/files/{name}") as response:
                assert await response.read() == content
    return len(files)


@pytest.mark.parametrize(
    ("step", "direction"), [(397, "up"), (4099, "up"), (21_001, "up"), (61, "down"), (199, "down")], ids=str
)
async def test_each_connection_is_cut_a_little_later_than_the_last(
    world: World, sender: Sender, figures: Figures, step: int, direction: str
) -> None:
    """Cut within the TLS handshake, the plan, the bytes, the completion, and the answer to each of them."""
    sender.write(FILES)
    acknowledged = Acknowledged(world, FILES)
    async with world.gateway():
        assert world.ports is not None
        cable = Cable(world.ports.https, plugged_in=acknowledged.check)
        setattr(cable, direction, itertools.count(0, step))
        async with cable.laid() as url:
            await sender.bring_home(url)
        compared = await read_back(world, FILES)
    assert cable.cuts > 5
    assert not acknowledged.went_back
    interrupted = len(acknowledged.interrupted)
    fault = f"{cable.cuts} connections cut after {step}, {2 * step}, … bytes {direction}"
    Tally(len(FILES), interrupted, interrupted, compared).tell(figures, fault)


async def test_a_token_that_expires_amid_an_upload(
    world: World, sender: Sender, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until kubelet has put a new one in its place the upload waits, and then it goes on where it was."""
    monkeypatch.setattr(tokens, "REMEMBERED_SECONDS", 0.05)
    files = {"big.csv": os.urandom(3 * CHUNK_BYTES), "small.csv": b"photo,x\n"}
    sender.write(files)
    async with world.gateway():
        async with sender.sending(world.url, Pace(2 * CHUNK_BYTES)):
            await until(lambda: sender.report().sent_bytes >= CHUNK_BYTES, "a part to have arrived")
            del world.api.tokens["agent-1"]
            await until(lambda: "401 TokenRefused" in sender.report().message, "the refusal to be told")
            held = sum(int(record.read_text()) for record in world.on_volume("staging/*/*/*.offset"))
            assert CHUNK_BYTES <= held < 3 * CHUNK_BYTES
            world.api.tokens["agent-1-renewed"] = Token(AGENT, node="edge-1")
            sender.token_file.write_text("agent-1-renewed")
            await until(lambda: sender.report().state is VolumeState.DONE, "the results to come home", 60)
        compared = await read_back(world, files)
        async with aiohttp.ClientSession(world.probes) as probes, probes.get("/metrics") as response:
            received = re.search(r"^edgewise_gateway_received_bytes_total (\S+)$", await response.text(), re.MULTILINE)
    assert received is not None
    assert float(received[1]) == sum(map(len, files.values())), "no byte was taken in twice"
    Tally(len(files), 1, 1, compared).tell(figures, "a token that expires amid an upload")
