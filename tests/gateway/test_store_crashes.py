"""The store, killed before every single change that it makes to the disk, in every step of a job's life.

After each crash the store is opened anew, the step is done again, as agents, operator and rounds do, and all goes on
as if nothing had happened; what was acknowledged before the crash is there at once.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from edgewise.gateway.records import JobIdentity
from edgewise.gateway.store import Store

from tests.gateway.surroundings import JOB_UID, OTHER_POD_UID, POD_UID, plan_of, sha256

JOB = JobIdentity(uid=JOB_UID, namespace="demo", name="faces", created_at=datetime(2026, 1, 1, tzinfo=UTC))
NOW = datetime(2026, 1, 2, tzinfo=UTC)
OWN, SHARED, LOG = b"photo\n1\n", b"photo\n1\n2\n", b"started\n"
FIRST = plan_of({"own.csv": OWN, "same.csv": SHARED, "none.csv": b""}, logs={"app/0.log": LOG})
SECOND = plan_of({"faces.csv": SHARED}, attempt=2, pod_name="faces-11111-2")
CHANGES = ("write", "rename", "unlink", "mkdir", "rmdir", "fsync", "fdatasync", "ftruncate")


class Crash(BaseException):
    """The process ends here."""


class Disk:
    """Lets so many changes through and none after; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changes = 0
        self._limit: int | None = None
        for name in CHANGES:
            monkeypatch.setattr(os, name, self._guarded(getattr(os, name)))

    def _guarded(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self._limit is not None and self.changes >= self._limit:
                raise Crash
            self.changes += 1
            return change(*args, **kwargs)

        return guarded

    @contextmanager
    def crashing_after(self, changes: int) -> Iterator[None]:
        self.changes, self._limit = 0, changes
        try:
            yield
        finally:
            self._limit = None


def send(pod_uid: str, content: bytes) -> Callable[[Store], None]:
    def step(store: Store) -> None:
        rest = content[store.staging.offset(JOB_UID, pod_uid, sha256(content)) :]
        if rest:
            with store.staging.append(JOB_UID, pod_uid, sha256(content)) as writer:
                writer.write(rest)
                writer.commit()

    return step


def complete(pod_uid: str) -> Callable[[Store], None]:
    def step(store: Store) -> None:
        store.staging.complete(JOB_UID, pod_uid, NOW, threading.Event())

    return step


def discard_an_upload(store: Store) -> None:
    store.staging.accept(JOB, OTHER_POD_UID, "edge-2", plan_of({"other.csv": b"x\n"}))
    store.staging.discard(JOB_UID, OTHER_POD_UID)


def expire(pod_uid: str) -> Callable[[Store], None]:
    def step(store: Store) -> None:
        store.results.expire(JOB_UID, pod_uid, NOW, "Its time is over.")
        store.results.tidy(JOB_UID)

    return step


def forget(store: Store) -> None:
    store.results.forget(JOB_UID)
    store.results.tidy(JOB_UID)


LIFE: tuple[Callable[[Store], Any], ...] = (
    lambda store: store.staging.accept(JOB, POD_UID, "edge-1", FIRST),
    lambda store: store.results.keep_for(JOB_UID, 3600.0),
    send(POD_UID, OWN),
    send(POD_UID, SHARED),
    send(POD_UID, LOG),
    complete(POD_UID),
    lambda store: store.results.set_aside(JOB_UID, POD_UID, NOW),
    discard_an_upload,
    lambda store: store.staging.accept(JOB, OTHER_POD_UID, "edge-2", SECOND),
    complete(OTHER_POD_UID),
    lambda store: store.results.publish(JOB_UID, OTHER_POD_UID, NOW),
    expire(POD_UID),
    lambda store: store.results.keep_for(JOB_UID, None),
    expire(OTHER_POD_UID),
    forget,
)


def state_of(store: Store, root: Path) -> dict[str, Any]:
    """All that others see of the store, and all that it takes on the disk."""
    return {
        "attempts": store.results.attempts(JOB_UID),
        "published": store.results.published(JOB_UID),
        "pending": store.results.pending(),
        "newest": store.results.newest("demo", "faces"),
        "job": store.results.job(JOB_UID),
        "kept for": store.results.kept_for(JOB_UID),
        "offsets": [store.staging.offset(JOB_UID, POD_UID, sha256(content)) for content in (OWN, SHARED, LOG)],
        "blobs": {path.name: path.read_bytes() for path in root.glob("jobs/*/blobs/*")},
        "paths": {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()},
    }


@contextmanager
def opened(root: Path) -> Iterator[Store]:
    store = Store(root)
    store.open()
    try:
        yield store
    finally:
        store.close()


def live(root: Path, steps: int) -> None:
    with opened(root) as store:
        for step in LIFE[:steps]:
            step(store)


@pytest.mark.parametrize("number", range(len(LIFE)))
def test_a_crash_at_any_change_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    disk = Disk(monkeypatch)
    live(tmp_path / "undisturbed", number)
    with opened(tmp_path / "undisturbed") as store:
        before = state_of(store, tmp_path / "undisturbed")
        LIFE[number](store)
        after = state_of(store, tmp_path / "undisturbed")
    crashes = 0
    while True:
        root = tmp_path / str(crashes)
        live(root, number)
        with opened(root) as store, disk.crashing_after(crashes):
            try:
                LIFE[number](store)
            except Crash:
                pass
            else:
                break
        with opened(root) as store:
            attempts = {kept.manifest.pod_uid for kept in store.results.attempts(JOB_UID)}
            assert number == len(LIFE) - 1 or attempts >= {kept.manifest.pod_uid for kept in before["attempts"]}
            promised = [min(old, new) for old, new in zip(before["offsets"], after["offsets"], strict=True)]
            held = state_of(store, root)["offsets"]
            assert all(now >= least for now, least in zip(held, promised, strict=True))
            LIFE[number](store)
            assert state_of(store, root) == after
        crashes += 1
    assert crashes > 0
