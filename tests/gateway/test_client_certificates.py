"""Users who show a client certificate of the cluster's CA instead of a token."""

import datetime
import time
from pathlib import Path

import aiohttp
import pytest
from edgewise.gateway import client_ca

from tests.gateway.reading import JOB, refusal
from tests.gateway.sending import FACES, put, send
from tests.gateway.surroundings import Authority, World, eventually, plan_of

REFUSED = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)


@pytest.fixture
def cluster_ca(world: World, tmp_path: Path) -> Authority:
    """The CA of the cluster's users, which the gateway may know."""
    tmp_path.joinpath("cluster").mkdir()
    authority = Authority(tmp_path / "cluster")
    world.api.client_ca = f"# CA der Länder\n{authority.file.read_text()}"  # any text may stand between certificates
    return authority


async def status_of(world: World, certificate: Path, token: str | None = None) -> int:
    """What a new connection with that certificate gets."""
    async with world.client(token, certificate) as user, user.get(f"{JOB}/files") as response:
        return response.status


async def until_known(world: World, certificate: Path) -> None:
    async def known() -> bool:
        return await status_of(world, certificate) != 401

    await eventually(known, "the gateway asks for certificates")


async def test_rbac_decides_about_the_name_and_groups_of_a_certificate(
    world: World, cluster_ca: Authority, tmp_path: Path
) -> None:
    cluster_ca.write_client(tmp_path / "ada", ("nobody", "ada"), ("readers", "team-1"))
    cluster_ca.write_client(tmp_path / "eve", ("eve",))
    async with world.gateway() as agent:
        await send(agent, {"faces.csv": FACES})
        await until_known(world, tmp_path / "ada")
        assert await status_of(world, tmp_path / "ada") == 200
        assert world.api.groups == ["readers", "team-1"]
        async with world.client(None, tmp_path / "eve") as user:
            status, problem = await refusal(user, f"{JOB}/files")
            assert (status, problem.reason) == (403, "NotAllowed")
            assert problem.detail.startswith("eve may not")


async def test_a_token_counts_before_a_certificate(world: World, cluster_ca: Authority, tmp_path: Path) -> None:
    cluster_ca.write_client(tmp_path / "ada", ("ada",))
    cluster_ca.write_client(tmp_path / "eve", ("eve",))
    async with world.gateway():
        await until_known(world, tmp_path / "ada")
        assert await status_of(world, tmp_path / "eve", "ada") == 200
        assert await status_of(world, tmp_path / "ada", "stolen") == 401


async def test_certificates_of_others_open_nothing(world: World, cluster_ca: Authority, tmp_path: Path) -> None:
    cluster_ca.write_client(tmp_path / "ada", ("ada",))
    cluster_ca.write_client(tmp_path / "unnamed", (), ("readers",))
    world.authority.write_client(tmp_path / "foreign", ("ada",))
    async with world.gateway():
        await until_known(world, tmp_path / "ada")
        with pytest.raises(REFUSED):
            await status_of(world, tmp_path / "foreign")
        async with world.client(None, tmp_path / "unnamed") as user:
            assert (await refusal(user, f"{JOB}/files"))[1].reason == "CertificateNamesNobody"


async def test_no_certificate_uploads(world: World, cluster_ca: Authority, tmp_path: Path) -> None:
    cluster_ca.write_client(tmp_path / "agent", ("system:serviceaccount:edgewise-system:edgewise-agent",))
    async with world.gateway():
        await until_known(world, tmp_path / "agent")
        async with world.client(None, tmp_path / "agent") as session:
            status, problem = await put(session, plan_of({"faces.csv": FACES}))
            assert (status, problem.reason) == (401, "NoToken")


async def test_an_expired_certificate_ends_with_its_connection(
    world: World, cluster_ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_ca.write_client(tmp_path / "ada", ("ada",))
    async with world.gateway():
        await until_known(world, tmp_path / "ada")
        async with world.client(None, tmp_path / "ada") as user:
            async with user.get(f"{JOB}/files") as response:
                assert response.status == 200
            later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
            monkeypatch.setattr(time, "time", later.timestamp)
            assert (await refusal(user, f"{JOB}/files"))[1].reason == "CertificateExpired"


async def test_the_cas_replacement_is_followed(
    world: World, cluster_ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a time without answers nor something that is no CA takes away what is known."""
    monkeypatch.setattr(client_ca, "LOOK_SECONDS", 0.05)
    tmp_path.joinpath("next").mkdir()
    successor = Authority(tmp_path / "next")
    cluster_ca.write_client(tmp_path / "old", ("ada",))
    successor.write_client(tmp_path / "new", ("ada",))
    async with world.gateway():
        await until_known(world, tmp_path / "old")
        for fault in ("", "no certificate"):
            world.api.client_ca = fault
            assert await status_of(world, tmp_path / "old") == 200
        world.api.client_ca = successor.file.read_text()

        async def replaced() -> bool:
            try:
                return await status_of(world, tmp_path / "new") == 200
            except REFUSED:
                return False

        await eventually(replaced, "the new CA counts")
        with pytest.raises(REFUSED):
            await status_of(world, tmp_path / "old")
