"""Uploads that nobody will finish are dropped, and no others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from edgewise.gateway.cluster import Cluster
from edgewise.gateway.store import Store
from edgewise.gateway.sweep import sweep_once
from edgewise.gateway.volume import Volume
from edgewise.kube.client import KubeClient

from tests.gateway.sending import FACES, patch, put
from tests.gateway.surroundings import World, plan_of


@asynccontextmanager
async def half_sent(world: World) -> AsyncIterator[tuple[Volume, Cluster]]:
    """The volume of a gateway that has stopped, with half an upload on it, and the cluster that it asks."""
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        assert (await patch(session, FACES, FACES[:5], 0))[0] == 200
    kube = await KubeClient.connect(world.settings.kubeconfig)
    store = Store(world.settings.data_dir)
    store.open()
    volume = Volume(store)
    try:
        yield volume, Cluster(kube)
    finally:
        volume.close()
        await kube.close()


async def test_only_uploads_of_deleted_jobs_are_dropped(world: World) -> None:
    async with half_sent(world) as (volume, cluster):
        assert await sweep_once(volume, cluster, idle_seconds=0) == 0
        assert await sweep_once(volume, cluster, idle_seconds=0, given_up=timedelta(days=7)) == 0
        world.api.jobs.clear()
        assert await sweep_once(volume, cluster, idle_seconds=3600) == 0
        assert world.on_volume("staging/*/*")
        assert await sweep_once(volume, cluster, idle_seconds=0) == 1
        assert not world.on_volume("staging/*")
        assert not world.on_volume("jobs/*")


async def test_what_a_lost_device_has_sent_in_part_goes_after_a_while(world: World) -> None:
    """Its job lives on, or has succeeded elsewhere; should the device come back, it has all of it still."""
    async with half_sent(world) as (volume, cluster):
        assert await sweep_once(volume, cluster, idle_seconds=3600, given_up=timedelta(0)) == 0, "not idle yet"
        assert await sweep_once(volume, cluster, idle_seconds=0, given_up=timedelta(0)) == 1
        assert not world.on_volume("staging/*/*")
