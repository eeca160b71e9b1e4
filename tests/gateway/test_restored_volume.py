"""A gateway whose volume was restored from an older copy: uploads go on, and what is gone is said."""

import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from edgewise_agent.wire import BlobStatus, Problem, UploadStatus, Verdict
from msgspec import json

from tests.gateway.reading import JOB, listing_of, published, refusal
from tests.gateway.sending import FACES, UPLOAD, complete, missing_offset, patch, put, send
from tests.gateway.surroundings import POD_UID, World, eventually, plan_of, sha256


class Backup:
    """Copies of the results volume, made and put back while no gateway runs."""

    def __init__(self, world: World, folder: Path) -> None:
        self._volume = world.settings.data_dir
        self._copy = folder / "backup"

    def make(self) -> None:
        shutil.copytree(self._volume, self._copy)

    def put_back(self) -> None:
        shutil.rmtree(self._volume)
        shutil.copytree(self._copy, self._volume)


@pytest.fixture
def backup(world: World, tmp_path: Path) -> Backup:
    return Backup(world, tmp_path)


def say_complete(world: World) -> None:
    """The operator has written to the job's status that its results are home."""
    world.api.jobs["demo", "faces"]["status"]["results"] = {"state": "Complete", "attempt": 1, "podUID": POD_UID}


async def test_an_upload_goes_on_from_the_older_offset(world: World, backup: Backup) -> None:
    plan = plan_of({"faces.csv": FACES})
    async with world.gateway() as agent:
        assert (await put(agent, plan))[0] == 200
        assert (await patch(agent, FACES, FACES[:10], 0))[0] == 200
    backup.make()
    async with world.gateway() as agent:
        assert (await patch(agent, FACES, FACES[10:30], 10))[0] == 200
    backup.put_back()
    async with world.gateway() as agent:
        assert await patch(agent, FACES, FACES[30:], 30) == (409, BlobStatus(sha256=sha256(FACES), offset=10))
        assert (await patch(agent, FACES, FACES[10:], 10))[0] == 200
        status, manifest = await complete(agent)
        assert (status, manifest.files[0].sha256) == (200, sha256(FACES))


async def test_an_upload_that_the_copy_does_not_know_begins_anew(world: World, backup: Backup) -> None:
    plan = plan_of({"faces.csv": FACES})
    async with world.gateway():
        pass
    backup.make()
    async with world.gateway() as agent:
        assert (await put(agent, plan))[0] == 200
        assert (await patch(agent, FACES, FACES[:10], 0))[0] == 200
    backup.put_back()
    async with world.gateway() as agent, world.client("ada") as user:
        status, problem = await patch(agent, FACES, FACES[10:], 10)
        assert (status, problem.reason) == (425, "NoPlan")
        assert (await complete(agent))[0] == 425
        assert await missing_offset(agent, plan) == 0
        await send(agent, {"faces.csv": FACES})
        assert (await published(user)).state == "Complete"


async def test_results_that_only_the_status_knows_are_said_to_be_lost(world: World, backup: Backup) -> None:
    async with world.gateway():
        pass
    backup.make()
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"faces.csv": FACES})
        await published(user)
        say_complete(world)
    backup.put_back()
    async with world.gateway() as agent, world.client("ada") as user:
        assert (await listing_of(user)).state == "Lost"
        for path in ("files/faces.csv", "archive.tar", "archive.zip", "attempts/1/files", "attempts/1/logs"):
            status, problem = await refusal(user, f"{JOB}/{path}")
            assert (status, problem.reason) == (404, "ResultsLost")
            assert POD_UID in problem.detail
        assert (await put(agent, plan_of({"faces.csv": FACES})))[0] == 200, "a device that has them still may send them"
        assert (await listing_of(user)).state == "Uploading"
        await send(agent, {"faces.csv": FACES})
        assert (await published(user)).state == "Complete"


async def status(session: aiohttp.ClientSession) -> tuple[int, Any]:
    """What the gateway says of the attempt's complete upload."""
    async with session.get(UPLOAD) as response:
        body = await response.read()
        return response.status, json.decode(body, type=UploadStatus if response.status == 200 else Problem)


async def test_an_acknowledged_upload_is_settled_once_the_verdict_is_on_the_volume(world: World) -> None:
    world.operator.verdicts = [Verdict.PENDING]
    async with world.gateway() as agent, world.client("agent-2") as other:
        assert (await put(agent, plan_of({"faces.csv": FACES})))[0] == 200
        assert (await status(agent))[0] == 425
        await send(agent, {"faces.csv": FACES})
        assert await status(agent) == (200, UploadStatus(missing=(), complete=True, settled=False))
        assert (await status(other))[0] == 403
        world.operator.verdicts = [Verdict.SUPERSEDED]

        async def is_settled() -> bool:
            return await status(agent) == (200, UploadStatus(missing=(), complete=True, settled=True))

        await eventually(is_settled, "the verdict is on the volume")


async def test_what_was_acknowledged_and_lost_can_be_sent_again(world: World, backup: Backup) -> None:
    """The copy is from before the acknowledgement; the device asks, learns of it, and has all of it still."""
    world.operator.verdicts = [Verdict.PENDING]
    async with world.gateway() as agent:
        assert (await put(agent, plan_of({"faces.csv": FACES})))[0] == 200
    backup.make()
    async with world.gateway() as agent:
        await send(agent, {"faces.csv": FACES})
        assert (await status(agent))[0] == 200
    backup.put_back()
    world.operator.verdicts = [Verdict.PUBLISHED]
    async with world.gateway() as agent, world.client("ada") as user:
        lost, problem = await status(agent)
        assert (lost, problem.reason) == (425, "NotComplete")
        await send(agent, {"faces.csv": FACES})
        assert (await published(user)).state == "Complete"
        assert await status(agent) == (200, UploadStatus(missing=(), complete=True, settled=True))


async def test_a_verdict_that_the_copy_does_not_know_is_asked_for_again(world: World, backup: Backup) -> None:
    world.operator.verdicts = [Verdict.PENDING]
    async with world.gateway() as agent:
        await send(agent, {"faces.csv": FACES})
    backup.make()
    world.operator.verdicts = [Verdict.PUBLISHED]
    async with world.gateway(), world.client("ada") as user:
        await published(user)
    say_complete(world)
    backup.put_back()
    async with world.gateway(), world.client("ada") as user, user.get(f"{JOB}/files/faces.csv") as response:
        assert (response.status, await response.read()) == (200, FACES)
