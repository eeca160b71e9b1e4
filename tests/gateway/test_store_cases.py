"""Cases of the store that random walks rarely reach: shared content, namesakes, damaged records, stops."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edgewise.gateway.records import BytesMissing, JobIdentity, NoPlan, StoreBusy, StoreDamaged, TooLate
from edgewise.gateway.store import Store
from edgewise_agent.wire import Manifest
from msgspec import structs

from tests.gateway.surroundings import JOB_UID, OTHER_JOB_UID, OTHER_POD_UID, POD_UID, plan_of, sha256

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
JOB = JobIdentity(uid=JOB_UID, namespace="demo", name="faces", created_at=CREATED)
FACES = b"photo\n1\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    store.open()
    yield store
    store.close()


def bring_home(store: Store, job: JobIdentity, pod_uid: str, files: dict[str, bytes]) -> Manifest:
    contents = {sha256(content): content for content in files.values()}
    for blob in store.staging.accept(job, pod_uid, "edge-1", plan_of(files)).missing:
        with store.staging.append(job.uid, pod_uid, blob.sha256) as writer:
            writer.write(contents[blob.sha256][blob.offset :])
            writer.commit()
    return store.staging.complete(job.uid, pod_uid, CREATED, threading.Event())


def test_removing_an_attempt_leaves_what_another_one_counts_on(store: Store) -> None:
    bring_home(store, JOB, POD_UID, {"faces.csv": FACES, "own.csv": b"x\n"})
    assert store.staging.accept(JOB, OTHER_POD_UID, "edge-2", plan_of({"faces.csv": FACES})).missing == ()
    store.results.remove(JOB_UID, POD_UID)
    manifest = store.staging.complete(JOB_UID, OTHER_POD_UID, CREATED, threading.Event())
    assert [file.sha256 for file in manifest.files] == [sha256(FACES)]
    with pytest.raises(FileNotFoundError):
        store.results.open_blob(JOB_UID, sha256(b"x\n"))


def half_right(store: Store, pod_uid: str) -> None:
    """An upload of which one content has proved right, and another one wrong."""
    for content in (b"right\n", b"wrong\n"):
        store.staging.accept(JOB, pod_uid, "edge-1", plan_of({"right": b"right\n", "wrong": b"wrong\n"}))
        with store.staging.append(JOB_UID, pod_uid, sha256(content)) as writer:
            writer.write(content if content.startswith(b"right") else b"WRONG\n")
            writer.commit()
    with pytest.raises(BytesMissing):
        store.staging.complete(JOB_UID, pod_uid, CREATED, threading.Event())


def test_what_was_verified_for_a_dropped_upload_counts_no_more(store: Store) -> None:
    bring_home(store, JOB, POD_UID, {"faces.csv": FACES})
    half_right(store, OTHER_POD_UID)
    assert store.results.held_bytes("demo", frozenset()) == len(FACES) + len(b"right\n")
    store.staging.discard(JOB_UID, OTHER_POD_UID)
    assert store.results.held_bytes("demo", frozenset()) == len(FACES)
    assert store.results.lost_of(JOB_UID, bring_home(store, JOB, POD_UID, {"faces.csv": FACES}).files) is None


def test_what_was_verified_for_a_former_plan_counts_no_more_after_the_next_round(store: Store) -> None:
    half_right(store, POD_UID)
    manifest = bring_home(store, JOB, POD_UID, {"faces.csv": FACES})
    store.results.tidy(JOB_UID)
    assert store.results.held_bytes("demo", frozenset()) == len(FACES)
    assert store.results.lost_of(JOB_UID, manifest.files) is None


def test_a_plan_that_was_sent_ahead_replaces_no_plan_of_the_whole(store: Store) -> None:
    """However late it arrives: else the job would be complete without what the app wrote last."""
    early, whole = {"early.csv": FACES}, {"early.csv": FACES, "late.csv": b"x\n"}
    ahead = structs.replace(plan_of(early), ahead=True)
    assert len(store.staging.accept(JOB, POD_UID, "edge-1", ahead).missing) == 1
    with pytest.raises(NoPlan):
        store.staging.complete(JOB_UID, POD_UID, CREATED, threading.Event())
    store.staging.accept(JOB, POD_UID, "edge-1", plan_of(whole))
    with pytest.raises(TooLate):
        store.staging.accept(JOB, POD_UID, "edge-1", ahead)
    assert {file.name for file in bring_home(store, JOB, POD_UID, whole).files} == set(whole)


def test_a_job_whose_record_is_damaged_counts_against_nobody(store: Store, tmp_path: Path) -> None:
    bring_home(store, JOB, POD_UID, {"faces.csv": FACES})
    damaged = tmp_path / "jobs" / OTHER_JOB_UID
    damaged.mkdir()
    (damaged / "job.json").write_bytes(b"")
    assert store.results.held_bytes("demo", frozenset()) == len(FACES)


def test_a_name_belongs_to_the_job_created_last(store: Store) -> None:
    later = JobIdentity(uid=OTHER_JOB_UID, namespace="demo", name="faces", created_at=CREATED + timedelta(days=1))
    bring_home(store, later, OTHER_POD_UID, {"faces.csv": FACES})
    bring_home(store, JOB, POD_UID, {"faces.csv": FACES})
    assert store.results.newest("demo", "faces") == OTHER_JOB_UID
    store.results.remove(JOB_UID, POD_UID)
    assert store.results.newest("demo", "faces") == OTHER_JOB_UID
    assert store.results.job(JOB_UID) is None


def test_content_that_rotted_is_asked_for_again(store: Store, tmp_path: Path) -> None:
    bring_home(store, JOB, POD_UID, {"faces.csv": FACES})
    (blob,) = tmp_path.glob("jobs/*/blobs/*")
    blob.write_bytes(FACES.upper())
    again = store.staging.accept(JOB, OTHER_POD_UID, "edge-1", plan_of({"faces.csv": FACES}))
    assert again.missing == ()
    with pytest.raises(BytesMissing, match="1 blobs are incomplete"):
        store.staging.complete(JOB_UID, OTHER_POD_UID, CREATED, threading.Event())
    bring_home(store, JOB, OTHER_POD_UID, {"faces.csv": FACES})
    assert blob.read_bytes() == FACES


def test_a_damaged_record_is_named(store: Store, tmp_path: Path) -> None:
    bring_home(store, JOB, POD_UID, {"faces.csv": FACES})
    (manifest,) = tmp_path.glob("jobs/*/attempts/*")
    manifest.write_bytes(b"{")
    with pytest.raises(StoreDamaged, match=str(manifest)):
        store.results.manifest(JOB_UID, POD_UID)


def test_a_verification_that_is_ended_loses_nothing(store: Store) -> None:
    store.staging.accept(JOB, POD_UID, "edge-1", plan_of({"faces.csv": FACES}))
    with store.staging.append(JOB_UID, POD_UID, sha256(FACES)) as writer:
        writer.write(FACES)
        writer.commit()
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        store.staging.complete(JOB_UID, POD_UID, CREATED, stop)
    assert store.staging.offset(JOB_UID, POD_UID, sha256(FACES)) == len(FACES)
    assert store.staging.complete(JOB_UID, POD_UID, CREATED, threading.Event()).files[0].rows == 1


def test_one_gateway_at_a_time(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path)
    with pytest.raises(StoreBusy, match="in use by another gateway"):
        other.open()
    store.close()
    other.open()
    other.close()
