"""A results volume without room: nothing half-written counts, and all goes on once there is room again."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from edgewise.gateway import bundles as bundles_module
from edgewise.gateway.bundle_store import Bundle, BundleStore
from edgewise.gateway.volume import RESERVE_BYTES
from edgewise_agent.wire import Problem
from msgspec import json

from tests.gateway.sending import complete, missing_offset, patch, put, send
from tests.gateway.surroundings import JOB_UID, World, plan_of
from tests.gateway.tars import tar_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system of a few MiB")

MIB = 2**20


@pytest.fixture
def small_volume(world: World, tmp_path: Path) -> Iterator[Path]:
    """The gateway's volume is a file system of 4 MiB."""
    volume = tmp_path / "small"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=200", "tmpfs", volume], check=True)
    world.settings = replace(world.settings, data_dir=volume)
    try:
        yield volume
    finally:
        subprocess.run(["umount", volume], check=True)


def fill_up(volume: Path) -> list[Path]:
    """Makes empty files until the file system has no room for another name; all of them."""
    made: list[Path] = []
    while os.statvfs(volume).f_favail > 0:
        made.append(volume / f"filler-{len(made)}")
        made[-1].touch()
    return made


async def test_a_plan_that_does_not_fit_is_refused_at_once(world: World, small_volume: Path) -> None:
    async with world.gateway() as session:
        status, problem = await put(session, plan_of({"big.bin": bytes(5 * MIB)}))
        assert (status, problem.reason) == (507, "VolumeFull")


async def test_bytes_wait_until_there_is_room(world: World, small_volume: Path) -> None:
    content = os.urandom(2 * MIB)
    plan = plan_of({"big.bin": content})
    ballast = small_volume / "ballast"
    async with world.gateway() as session:
        assert await missing_offset(session, plan) == 0
        assert (await patch(session, content, content[:MIB], 0))[0] == 200
        ballast.write_bytes(bytes(2 * MIB + MIB // 2))
        status, problem = await patch(session, content, content[MIB:], MIB)
        assert (status, problem.reason) == (507, "VolumeFull")
        assert (await put(session, plan))[0] == 507
        (part,) = world.on_volume("staging/*/*/*.part")
        assert part.stat().st_size == MIB
        ballast.unlink()
        assert await missing_offset(session, plan) == MIB
        assert (await patch(session, content, content[MIB:], MIB))[0] == 200
        assert (await complete(session))[0] == 200


async def test_no_room_for_the_manifest(world: World, small_volume: Path) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"empty.csv": b""})))[0] == 200
        fillers = fill_up(small_volume)
        status, problem = await complete(session)
        assert (status, problem.reason) == (507, "VolumeFull")
        assert not world.on_volume(f"jobs/{JOB_UID}/attempts/*")
        assert not world.on_volume("scratch/*")
        for filler in fillers:
            filler.unlink()
        await send(session, {"empty.csv": b""})


def free_bytes(volume: Path) -> int:
    of = os.statvfs(volume)
    return of.f_bavail * of.f_frsize


async def push(world: World, tar: bytes | AsyncIterator[bytes]) -> tuple[int, str]:
    """A user's push of a bundle; the status, and the reason where it is refused."""
    async with world.client("ada") as user, user.put("/v1/namespaces/demo/bundles", data=tar) as response:
        body = await response.read()
        return response.status, "" if response.ok else json.decode(body, type=Problem).reason


async def test_bundles_leave_the_room_that_removing_needs(world: World, small_volume: Path) -> None:
    async with world.gateway():
        answers: list[tuple[int, str]] = []
        while not answers or answers[-1] == (201, ""):
            answers.append(await push(world, tar_of({"model.bin": os.urandom(MIB // 4)})))
        assert answers[-1] == (507, "VolumeFull")
        assert len(answers) > 2
        assert free_bytes(small_volume) >= RESERVE_BYTES
        assert not world.on_volume("scratch/*")


async def test_a_push_is_stopped_before_it_fills_the_volume(
    world: World, small_volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles_module, "IDLE_SECONDS", 5.0)
    tar = tar_of({"model.bin": os.urandom(5 * MIB)})

    async def pieces_and_no_end() -> AsyncIterator[bytes]:
        for start in range(0, 3 * MIB + MIB // 2, 2**16):
            yield tar[start : start + 2**16]
        await asyncio.Event().wait()

    async with world.gateway():
        assert await push(world, pieces_and_no_end()) == (507, "VolumeFull")
        assert not world.on_volume("scratch/*")


async def test_a_bundle_is_not_kept_in_room_that_was_taken_meanwhile(
    world: World, small_volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = BundleStore.pack

    def pack_while_others_write(store: BundleStore, sent: Path, packed: Path, most_bytes: int) -> Bundle:
        bundle = pack(store, sent, packed, most_bytes)
        small_volume.joinpath("ballast").write_bytes(bytes(free_bytes(small_volume) - RESERVE_BYTES + 1))
        return bundle

    monkeypatch.setattr(BundleStore, "pack", pack_while_others_write)
    async with world.gateway():
        assert await push(world, tar_of({"main.py": b"pass"})) == (507, "VolumeFull")
        assert not world.on_volume("bundles/*/*")


async def test_what_a_waiting_upload_is_told_stays_the_same(world: World, small_volume: Path) -> None:
    """It is in the job's status: another sentence at each retry would be a write at each retry."""
    content = os.urandom(2 * MIB)
    plan = plan_of({"big.bin": content})
    async with world.gateway() as session:
        assert await missing_offset(session, plan) == 0
        assert (await patch(session, content, content[:MIB], 0))[0] == 200
        small_volume.joinpath("ballast").write_bytes(bytes(2 * MIB))
        before = await put(session, plan)
        assert (await patch(session, content, content[MIB : MIB + MIB // 4], MIB))[0] == 200
        assert await put(session, plan) == before
        assert before[0] == 507
