"""Users store folders as bundles; users and agents fetch them; those that nobody names go after a while."""

import asyncio
import hashlib
import os
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from edgewise.gateway import bundles as bundles_module
from edgewise.gateway import durable
from edgewise.gateway.bundle_store import Bundle, BundleStore
from edgewise.gateway.bundles import BundleList
from edgewise.gateway.quota import ANNOTATION
from edgewise.gateway.store import Store
from edgewise_agent.wire import Problem
from msgspec import json

from tests.gateway.reading import refusal
from tests.gateway.surroundings import World, eventually
from tests.gateway.tars import APP, files_in, packed, tar_of, tar_with

BUNDLES = "/v1/namespaces/demo/bundles"


async def put(
    user: aiohttp.ClientSession,
    tar: bytes | AsyncIterator[bytes],
    headers: dict[str, str] | None = None,
    namespace: str = "demo",
) -> tuple[int, bytes]:
    async with user.put(f"/v1/namespaces/{namespace}/bundles", data=tar, headers=headers) as response:
        return response.status, await response.read()


async def stored(user: aiohttp.ClientSession, tar: bytes | AsyncIterator[bytes]) -> Bundle:
    status, body = await put(user, tar)
    assert status in (200, 201), body
    return json.decode(body, type=Bundle)


async def test_a_folder_is_stored_once_however_it_is_sent(world: World) -> None:
    async with world.gateway(), world.client("ada") as user:
        status, body = await put(user, tar_of(APP))
        bundle = json.decode(body, type=Bundle)
        assert status == 201
        assert (bundle.files, bundle.bytes_) == (3, sum(map(len, APP.values())))
        for tar, headers in (
            (tar_of(dict(reversed(APP.items())), mtime=99), {}),
            (packed(tar_of(APP)), {"Content-Encoding": "gzip"}),
            (packed(tar_of(APP)), {"Content-Type": "application/gzip"}),
        ):
            assert await put(user, tar, headers) == (200, body)
        assert len(world.on_volume("bundles/demo/*.tar")) == 1
        assert world.on_volume("scratch/*") == []
        async with user.get(BUNDLES) as response:
            listed = json.decode(await response.read(), type=BundleList)
        assert listed == BundleList(namespace="demo", bundles=(bundle,))


@pytest.mark.parametrize("token", ["ada", "bob", "agent-1"])
async def test_users_and_agents_fetch_it(world: World, token: str) -> None:
    async with world.gateway(), world.client("ada") as user, world.client(token) as reader:
        bundle = await stored(user, tar_of(APP))
        path = f"{BUNDLES}/{bundle.digest}"
        async with reader.get(path) as response:
            whole = await response.read()
            etag = response.headers["ETag"]
        assert files_in(whole) == APP
        assert f"sha256:{hashlib.sha256(whole).hexdigest()}" == bundle.digest
        assert etag == f'"{bundle.sha256}"'
        async with reader.get(path, headers={"Range": "bytes=700-", "If-Match": etag}) as response:
            assert (response.status, await response.read()) == (206, whole[700:])
        async with reader.get(path, headers={"If-Match": '"other"'}) as response:
            assert response.status == 412
        async with reader.head(f"{BUNDLES}/{bundle.sha256}") as response:
            assert response.headers["Content-Length"] == str(len(whole))


async def test_who_may_not_is_refused(world: World) -> None:
    async with world.gateway(), world.client("ada") as ada, world.client("bob") as bob, world.client(None) as nobody:
        bundle = await stored(ada, tar_of(APP))
        for user, namespace, expected in ((bob, "demo", 403), (ada, "other", 403), (nobody, "demo", 401)):
            assert (await put(user, tar_of(APP), namespace=namespace))[0] == expected
        async with world.client("pod-1") as pod, world.client("unbound") as unbound:
            for session in (pod, unbound):
                status, problem = await refusal(session, f"{BUNDLES}/{bundle.digest}")
                assert (status, problem.reason) == (403, "NotAllowed")
        async with world.client("agent-1") as agent:
            assert (await put(agent, tar_of(APP)))[0] == 403
            assert (await refusal(agent, BUNDLES))[0] == 403, "a device knows only the digests of its pods"
        assert (await refusal(ada, f"/v1/namespaces/other/bundles/{bundle.digest}"))[0] == 403
        assert (await refusal(ada, f"{BUNDLES}/sha256:{'0' * 64}"))[1].reason == "NoSuchBundle"
        assert (await refusal(ada, f"{BUNDLES}/latest"))[0] == 404


@pytest.mark.parametrize(
    ("tar", "headers", "status", "reason"),
    [
        (tar_with(b"2"), {}, 422, "BadBundle"),
        (b"no tar at all" * 100, {}, 422, "BadBundle"),
        (b"no gzip", {"Content-Encoding": "gzip"}, 422, "BadEncoding"),
        (packed(tar_of(APP))[:-4], {"Content-Encoding": "gzip"}, 422, "BadEncoding"),
        (tar_of(APP), {"Content-Encoding": "br"}, 415, "UnknownEncoding"),
        (tar_of({"a": bytes(200_000)}), {}, 413, "BundleTooLarge"),
        (packed(bytes(80 * 2**20)), {"Content-Encoding": "gzip"}, 413, "BundleTooLarge"),
    ],
)
async def test_what_is_no_bundle_leaves_nothing(
    world: World, tar: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    world.settings = replace(world.settings, bundle_limit=100_000)
    async with world.gateway(), world.client("ada") as user:
        answer, body = await put(user, tar, headers)
        assert (answer, json.decode(body, type=Problem).reason) == (status, reason)
        assert world.on_volume("scratch/*") + world.on_volume("bundles/*/*") == []


async def test_a_bundle_counts_against_the_quota(world: World) -> None:
    world.api.annotations = {ANNOTATION: "20Ki"}
    async with world.gateway(), world.client("ada") as user:
        await stored(user, tar_of(APP))
        status, body = await put(user, tar_of({"a": bytes(10_000)}))
        assert (status, json.decode(body, type=Problem).reason) == (507, "QuotaExceeded")
        assert (await put(user, tar_of(APP)))[0] == 200


async def test_a_namespace_has_so_many_bundles_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles_module, "MAX_BUNDLES", 1)
    async with world.gateway(), world.client("ada") as user:
        await stored(user, tar_of(APP))
        status, body = await put(user, tar_of({"a": b""}))
        assert (status, json.decode(body, type=Problem).reason) == (507, "TooManyBundles")
        assert (await put(user, tar_of(APP)))[0] == 200


async def _half(content: bytes, go_on: asyncio.Event) -> AsyncIterator[bytes]:
    yield content[:1000]
    await go_on.wait()
    yield content[1000:]


async def test_pushes_of_one_namespace_take_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles_module, "TURN_SECONDS", 0.05)
    go_on = asyncio.Event()

    async def begun() -> bool:
        return bool(world.on_volume("scratch/*"))

    async with world.gateway(), world.client("ada") as user, asyncio.TaskGroup() as group:
        slow = group.create_task(put(user, _half(tar_of(APP), go_on)))
        await eventually(begun, "the first one has its turn")
        status, body = await put(user, tar_of(APP))
        assert (status, json.decode(body, type=Problem).reason) == (503, "Busy")
        go_on.set()
        assert (await slow)[0] == 201


async def test_the_same_pushed_twice_at_once_is_stored_once(world: World) -> None:
    async with world.gateway(), world.client("ada") as user:
        answers = await asyncio.gather(*(put(user, tar_of(APP)) for _ in range(4)))
        assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
        assert len({body for _, body in answers}) == 1
        assert len(world.on_volume("bundles/demo/*.tar")) == 1


async def test_a_push_that_takes_too_long_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles_module, "MOST_SECONDS", 0.05)
    async with world.gateway(), world.client("ada") as user:
        status, body = await put(user, _half(tar_of(APP), asyncio.Event()))
        assert (status, json.decode(body, type=Problem).reason) == (408, "TooSlow")
        assert world.on_volume("scratch/*") + world.on_volume("bundles/*/*") == []


def test_pushed_again_while_it_is_collected_stays(tmp_path: Path) -> None:
    """It was found unwanted, then pushed again: the removal looks once more."""
    store, bundles = Store(tmp_path / "volume"), BundleStore(tmp_path / "volume")
    store.open()
    sent = tmp_path / "sent"
    sent.write_bytes(tar_of(APP))
    draft, again = bundles.scratch(), bundles.scratch()
    bundle = bundles.pack(sent, draft, 10**6)
    assert bundles.keep("demo", bundle, draft)
    os.utime(tmp_path / f"volume/bundles/demo/{bundle.sha256}.tar", (0, 0))
    before = datetime.now(UTC) - timedelta(days=7)
    assert bundles.unwanted_since(before) == [("demo", bundle.sha256)]
    assert not bundles.keep("demo", bundles.pack(sent, again, 10**6), again)
    assert not bundles.remove("demo", bundle.sha256, before)
    assert bundles.held("demo") == [bundle]
    store.close()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 2**16):
        yield content[start : start + 2**16]


async def test_memory_does_not_grow_with_the_bundle(world: World) -> None:
    tar = tar_of({"model.bin": bytes(48 * 2**20)})
    async with world.gateway(), world.client("ada") as user:
        tracemalloc.start()
        try:
            bundle = await stored(user, _pieces(tar))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert bundle.bytes_ == 48 * 2**20
        assert peak < 16 * 2**20


async def test_only_bundles_that_no_app_names_go_after_the_grace(world: World) -> None:
    world.settings = replace(world.settings, bundles_kept=timedelta(days=7))
    async with world.gateway(), world.client("ada") as user:
        named, unnamed, fresh = [(await stored(user, tar_of({name: b""}))).sha256 for name in "abc"]
    world.api.name_bundle(f"sha256:{named}")
    long_ago = time.time() - 8 * 86_400
    for sha256 in (named, unnamed):
        os.utime(world.settings.data_dir / f"bundles/demo/{sha256}.tar", (long_ago, long_ago))

    async def gone() -> bool:
        return not world.on_volume(f"bundles/demo/{unnamed}.*")

    async with world.gateway():
        await eventually(gone, "the unwanted bundle is removed")
    assert {path.stem for path in world.on_volume("bundles/demo/*.tar")} == {named, fresh}


async def test_nothing_goes_while_the_api_server_is_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.gateway(), world.client("ada") as user:
        await stored(user, tar_of(APP))
    (path,) = world.on_volume("bundles/demo/*.tar")
    os.utime(path, (0, 0))
    world.api.broken = True

    async def passed_over() -> bool:
        return "no bundle is removed in this round" in caplog.text

    async with world.gateway():
        await eventually(passed_over, "the round is passed over")
    assert path.exists()


def test_a_crash_while_it_is_kept_leaves_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever call to the disk is the last one: afterwards the bundle is whole or not there, and can be sent again."""
    store = Store(tmp_path / "volume")
    bundles = BundleStore(tmp_path / "volume")
    sent = tmp_path / "sent"
    sent.write_bytes(tar_of(APP))
    real = durable.sync_folder
    for crash_at in range(1, 8):
        store.open()
        left = crash_at

        def sync(folder: Path) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            real(folder)

        draft = bundles.scratch()
        bundle = bundles.pack(sent, draft, 10**6)
        monkeypatch.setattr(durable, "sync_folder", sync)
        try:
            bundles.keep("demo", bundle, draft)
        except KeyboardInterrupt:
            pass
        finally:
            monkeypatch.setattr(durable, "sync_folder", real)
            store.close()
        found = bundles.get("demo", bundle.sha256)
        if found is not None:
            with bundles.open("demo", bundle.sha256) as tar:
                assert hashlib.sha256(tar.read()).hexdigest() == found.sha256
            assert bundles.held("demo") == [bundle]
            assert bundles.remove("demo", bundle.sha256, datetime.now(UTC) + timedelta(seconds=9))
        assert bundles.held("demo") == []
    store.open()
    assert list((tmp_path / "volume/scratch").iterdir()) == []
    store.close()
