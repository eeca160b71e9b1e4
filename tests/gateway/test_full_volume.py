"""A results volume without room: nothing half-written counts, and all goes on once there is room again."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateway.sending import complete, missing_offset, patch, put, send
from tests.gateway.surroundings import JOB_UID, World, plan_of

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
