"""Content goes when its time is over, and says so; nothing else goes, whatever happens on the way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from edgewise.gateway.cluster import Cluster, ClusterUnreachable
from edgewise.gateway.records import Expirable
from edgewise.gateway.retention import overdue, remove_overdue
from edgewise.gateway.store import Store
from edgewise.gateway.volume import Volume
from edgewise.kube.client import KubeClient
from edgewise_agent.wire import Verdict

from tests.gateway.reading import JOB, attempts_of, listing_of, refusal
from tests.gateway.sending import FACES, LOG, put, send, send_second
from tests.gateway.surroundings import (
    JOB_UID,
    OTHER_JOB_UID,
    OTHER_POD_UID,
    POD_UID,
    World,
    eventually,
    plan_of,
    sha256,
)

NOW = datetime(2026, 1, 31, tzinfo=UTC)
WEEK = timedelta(days=7)
DAY = timedelta(days=1)


def attempt(completed: timedelta, aside: timedelta | None = None) -> Expirable:
    return Expirable(pod_uid=POD_UID, completed_at=NOW - completed, aside_at=None if aside is None else NOW - aside)


@pytest.mark.parametrize(
    ("given", "results_days", "aside", "goes"),
    [
        (attempt(400 * DAY), None, WEEK, False),
        (attempt(3 * DAY), 3, WEEK, True),
        (attempt(2 * DAY), 3, WEEK, False),
        (attempt(3 * DAY), 3, None, True),
        (attempt(400 * DAY, WEEK), None, WEEK, True),
        (attempt(400 * DAY, 6 * DAY), None, WEEK, False),
        (attempt(400 * DAY, 400 * DAY), None, None, False),
        (attempt(3 * DAY, DAY), 3, WEEK, True),
    ],
)
def test_what_is_overdue(given: Expirable, results_days: int | None, aside: timedelta | None, goes: bool) -> None:
    seconds = None if results_days is None else results_days * DAY.total_seconds()
    due = overdue([given], seconds, aside, NOW)
    assert [pod for pod, _ in due] == ([POD_UID] if goes else [])
    assert all(why.endswith(".") for _, why in due)


@asynccontextmanager
async def rounds(world: World) -> AsyncIterator[tuple[Volume, Cluster]]:
    """What a round of removals needs, while no gateway runs."""
    kube = await KubeClient.connect(world.settings.kubeconfig)
    store = Store(world.settings.data_dir)
    store.open()
    volume = Volume(store)
    try:
        yield volume, Cluster(kube)
    finally:
        volume.close()
        await kube.close()


async def one_round(world: World, later: timedelta) -> int:
    async with rounds(world) as (volume, cluster):
        return await remove_overdue(volume, cluster, WEEK, datetime.now(UTC) + later)


def retain_results(world: World, duration: str | None) -> None:
    world.api.jobs["demo", "faces"]["spec"] = {"retention": {"results": duration}}


async def two_attempts(world: World) -> None:
    """The first one is set aside, the second one published; they share one content."""
    world.api.add_attempt()
    world.operator.by_pod = {POD_UID: Verdict.SUPERSEDED, OTHER_POD_UID: Verdict.PUBLISHED}
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"half.csv": b"a\n", "same.csv": FACES}, logs={"app/0.log": LOG})
        await send_second(world, {"faces.csv": FACES})

        async def settled() -> bool:
            return all(one.verdict is not Verdict.PENDING for one in (await attempts_of(user)).attempts)

        await eventually(settled, "both have their verdict")


def blobs(world: World) -> set[str]:
    return {path.name for path in world.on_volume(f"jobs/{JOB_UID}/blobs/*")}


async def test_other_attempts_files_go_after_a_while(world: World) -> None:
    await two_attempts(world)
    assert await one_round(world, 6 * DAY) == 0
    assert await one_round(world, 8 * DAY) == 1
    assert await one_round(world, 9 * DAY) == 0
    assert blobs(world) == {sha256(FACES)}
    async with world.gateway(), world.client("ada") as user:
        first, second = (await attempts_of(user)).attempts
        assert first.removed_at is not None
        assert second.removed_at is None
        for path in ("files/half.csv", "files/same.csv", "logs/app/0.log"):
            status, problem = await refusal(user, f"{JOB}/attempts/1/{path}")
            assert (status, problem.reason) == (404, "Removed")
            assert "kept for 7 days" in problem.detail
        async with user.get(f"{JOB}/files/faces.csv") as response:
            assert await response.read() == FACES


async def test_results_go_when_their_job_says_so(world: World) -> None:
    await two_attempts(world)
    retain_results(world, "2d")
    assert await one_round(world, DAY) == 0
    assert await one_round(world, 3 * DAY) == 2
    assert not blobs(world)
    async with world.gateway() as agent, world.client("ada") as user:
        listing = await listing_of(user)
        assert (listing.state, [file.name for file in listing.files]) == ("Removed", ["faces.csv"])
        assert listing.removed_at is not None
        for path in ("files/faces.csv", "archive.tar", "archive.zip"):
            status, problem = await refusal(user, f"{JOB}/{path}")
            assert (status, problem.reason) == (404, "Removed")
            assert "spec.retention.results is over" in problem.detail
        plan = plan_of({"half.csv": b"a\n", "same.csv": FACES})
        assert (await put(agent, plan))[1].complete, "its device need not send it again"


@pytest.mark.parametrize("longer", [None, "Forever", "9d"])
async def test_a_longer_time_counts_at_once(world: World, longer: str | None) -> None:
    retain_results(world, "2d")
    await two_attempts(world)
    retain_results(world, longer)
    assert await one_round(world, 3 * DAY) == 0
    assert sha256(FACES) in blobs(world)


async def test_a_deleted_jobs_results_stay_unless_it_said_otherwise(world: World) -> None:
    await two_attempts(world)
    world.api.jobs.clear()
    assert await one_round(world, 400 * DAY) == 1
    assert blobs(world) == {sha256(FACES)}


async def test_a_deleted_jobs_time_goes_on(world: World) -> None:
    retain_results(world, "2d")
    await two_attempts(world)
    world.api.jobs.clear()
    assert await one_round(world, DAY) == 0
    assert sha256(FACES) in blobs(world)
    assert await one_round(world, 3 * DAY) == 2
    assert not world.on_volume("jobs/*") + world.on_volume("names/*/*")


async def test_nothing_goes_while_nobody_can_be_asked(world: World) -> None:
    retain_results(world, "2d")
    await two_attempts(world)
    world.api.broken = True
    with pytest.raises(ClusterUnreachable):
        await one_round(world, 3 * DAY)
    assert sha256(FACES) in blobs(world)


async def test_an_attempt_without_verdict_stays(world: World) -> None:
    retain_results(world, "2d")
    world.operator.verdicts = [Verdict.PENDING]
    async with world.gateway() as agent:
        await send(agent, {"faces.csv": FACES})
    assert await one_round(world, 400 * DAY) == 0
    assert blobs(world) == {sha256(FACES)}


async def test_every_job_is_asked_about(world: World) -> None:
    """The API server's list comes in pages."""
    await two_attempts(world)
    retain_results(world, "2d")
    metadata = world.api.jobs["demo", "faces"]["metadata"] | {"name": "another", "uid": OTHER_JOB_UID}
    world.api.jobs["demo", "another"] = {"metadata": metadata, "spec": {"retention": {"results": "1h"}}}
    async with rounds(world) as (_, cluster):
        assert await cluster.results_retention() == {JOB_UID: 2 * 86400.0, OTHER_JOB_UID: 3600.0}
