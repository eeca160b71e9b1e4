"""The results volume. The only module that knows its folders; blocking calls, made in threads by its callers.

    staging/<job UID>/<pod UID>/     one upload under way: plan.json, and two files a blob (partial.py)
    jobs/<job UID>/job.json          whose results these are
    jobs/<job UID>/blobs/<sha256>    verified content, once for all attempts of the job
    jobs/<job UID>/attempts/<pod UID>.json    the manifest, written last: an attempt without one is not there
    jobs/<job UID>/published.json    the one attempt whose files are the job's results
    pending/<pod UID>.json           a manifest that the operator has not finally judged
    names/<namespace>/<job>.json     the newest job of that name
    scratch/                         files that are not finished; emptied at every start

The store never decides who may do what, nor which attempt counts. Calls for one job must not overlap where the
docstring says 'changes the job': the caller holds a lock for each job.
"""

import fcntl
import logging
import os
import shutil
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from edgewise_agent.wire import BlobStatus, Manifest, ResultFile, UploadPlan, UploadStatus
from msgspec import json

from edgewise.gateway.durable import make_folder, move_file, replace_file, sync_folder
from edgewise.gateway.partial import BlobWriter, PartialBlob
from edgewise.gateway.records import (
    AcceptedPlan,
    AlreadyComplete,
    BytesMissing,
    JobIdentity,
    NoPlan,
    PendingNote,
    PublishedNote,
    StoreBusy,
    StoreDamaged,
    read_record,
)
from edgewise.gateway.verify import Mismatch, verify

logger = logging.getLogger(__name__)


class Store:
    """Everything that the gateway keeps, under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = root / "staging"
        self._jobs = root / "jobs"
        self._pending = root / "pending"
        self._names = root / "names"
        self._scratch = root / "scratch"
        self._lock = -1

    def open(self) -> None:
        """Makes the folders, takes the volume for this process and drops what a crash left unfinished.

        Raises `StoreBusy` while another process has it.
        """
        for folder in (self._staging, self._jobs, self._pending, self._names, self._scratch):
            make_folder(folder)
        lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StoreBusy(f"{self._root} is in use by another gateway") from error
        self._lock = lock
        for leftover in self._scratch.iterdir():
            leftover.unlink()

    def close(self) -> None:
        """Gives the volume free. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def free_bytes(self) -> int:
        """How much more the volume takes."""
        volume = os.statvfs(self._root)
        return volume.f_bavail * volume.f_frsize

    # ---- uploads

    def accept(self, job: JobIdentity, pod_uid: str, node: str, plan: UploadPlan) -> UploadStatus:
        """Takes an attempt's plan and says what is still to send. Changes the job.

        A plan that replaces an unfinished one keeps the bytes that both name. Raises `AlreadyComplete`, `VolumeFull`.
        """
        if (manifest := self.manifest(job.uid, pod_uid)) is not None:
            if _contents(manifest) != _contents(plan):
                raise AlreadyComplete
            return UploadStatus(missing=(), complete=True)
        self._remember(job)
        folder = self._upload(job.uid, pod_uid)
        make_folder(folder)
        accepted = AcceptedPlan(node=node, plan=plan)
        if self.plan(job.uid, pod_uid) != accepted:
            replace_file(folder / "plan.json", json.encode(accepted), self._scratch)
            wanted = {file.sha256 for file in plan.files}
            for leftover in folder.glob("*.part"):
                if leftover.stem not in wanted:
                    PartialBlob(folder, leftover.stem).remove()
        return UploadStatus(missing=self._missing(job.uid, pod_uid, plan))

    def plan(self, job_uid: str, pod_uid: str) -> AcceptedPlan | None:
        """The plan of an upload that is under way."""
        return read_record(self._upload(job_uid, pod_uid) / "plan.json", AcceptedPlan)

    def offset(self, job_uid: str, pod_uid: str, sha256: str) -> int:
        """How many bytes of a blob are safely held, be it by this upload or by an earlier attempt."""
        try:
            return self._blob(job_uid, sha256).stat().st_size
        except FileNotFoundError:
            return PartialBlob(self._upload(job_uid, pod_uid), sha256).offset()

    def append(self, job_uid: str, pod_uid: str, sha256: str) -> BlobWriter:
        """Opens a blob of an accepted plan for its next bytes. One writer a blob. Raises `VolumeFull`."""
        return PartialBlob(self._upload(job_uid, pod_uid), sha256).append()

    def complete(self, job_uid: str, pod_uid: str, now: datetime, stop: threading.Event) -> Manifest:
        """Verifies every blob and writes the manifest. Changes the job. A power cut after it takes nothing away.

        Reads every byte, so it may take minutes; `stop` ends it early with `InterruptedError`, losing nothing.
        Raises `NoPlan`, `BytesMissing` (blobs with a wrong hash are removed and missing from 0), `VolumeFull`.
        """
        if (manifest := self.manifest(job_uid, pod_uid)) is not None:
            self._drop_upload(job_uid, pod_uid)
            return manifest
        accepted = self.plan(job_uid, pod_uid)
        job = self.job(job_uid)
        if accepted is None or job is None:
            raise NoPlan
        plan = accepted.plan
        if missing := self._missing(job_uid, pod_uid, plan):
            raise BytesMissing(missing)
        rows = self._verify_all(job_uid, pod_uid, plan, stop)
        manifest = Manifest(
            namespace=job.namespace,
            job=job.name,
            job_uid=job_uid,
            pod_uid=pod_uid,
            attempt=plan.attempt,
            node=accepted.node,
            completed_at=now,
            files=tuple(
                ResultFile(name=file.name, bytes_=file.bytes_, sha256=file.sha256, rows=rows[file.sha256])
                if _is_csv(file.name)
                else ResultFile(name=file.name, bytes_=file.bytes_, sha256=file.sha256)
                for file in plan.files
            ),
            refused=plan.refused,
            refused_count=plan.refused_count,
            skipped=plan.skipped,
        )
        make_folder(self._manifest(job_uid, pod_uid).parent)
        pending = PendingNote(job_uid=job_uid, pod_uid=pod_uid)
        replace_file(self._pending / f"{pod_uid}.json", json.encode(pending), self._scratch)
        replace_file(self._manifest(job_uid, pod_uid), json.encode(manifest), self._scratch)
        self._drop_upload(job_uid, pod_uid)
        return manifest

    def discard(self, job_uid: str, pod_uid: str) -> None:
        """Drops an upload that is under way; nothing of a complete one. Changes the job."""
        self._drop_upload(job_uid, pod_uid)
        self._drop_empty_job(job_uid)

    def idle_uploads(self, seconds: float) -> list[tuple[JobIdentity, str]]:
        """The uploads under way that nothing was written to for so long, each as its job and pod UID."""
        before = time.time() - seconds
        found = []
        for folder in self._staging.glob("*/*"):
            try:
                newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
                job = self.job(folder.parent.name)
            except FileNotFoundError:
                continue  # just removed by another call
            except StoreDamaged as error:
                logger.error("%s", error)  # noqa: TRY400 - the text says all
                continue
            if newest < before and job is not None:
                found.append((job, folder.name))
        return found

    # ---- verdicts

    def pending(self) -> list[tuple[str, str]]:
        """The job and pod UID of each manifest without a final verdict, oldest first.

        A note of a manifest that a crash kept from being written is dropped: its agent completes it again.
        """
        found = []
        for note in sorted(self._pending.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            try:
                entry = read_record(note, PendingNote)
            except StoreDamaged as error:
                logger.error("%s", error)  # noqa: TRY400 - the text says all
                continue
            if entry is None or not self._manifest(entry.job_uid, entry.pod_uid).exists():
                note.unlink()
                continue
            found.append((entry.job_uid, entry.pod_uid))
        return found

    def publish(self, job_uid: str, pod_uid: str) -> None:
        """Makes an attempt's files the job's results. Changes the job. Idempotent. Raises `VolumeFull`."""
        record = json.encode(PublishedNote(pod_uid=pod_uid))
        replace_file(self._jobs / job_uid / "published.json", record, self._scratch)
        self._settled(pod_uid)

    def set_aside(self, job_uid: str, pod_uid: str) -> None:
        """Keeps an attempt's files without making them the job's results. Idempotent."""
        if self.manifest(job_uid, pod_uid) is not None:
            self._settled(pod_uid)

    def remove(self, job_uid: str, pod_uid: str) -> None:
        """Removes a complete attempt and the content that no other attempt has. Changes the job. Idempotent."""
        published = read_record(self._jobs / job_uid / "published.json", PublishedNote)
        if published is not None and published.pod_uid == pod_uid:
            (self._jobs / job_uid / "published.json").unlink()
        self._manifest(job_uid, pod_uid).unlink(missing_ok=True)
        if self._manifest(job_uid, pod_uid).parent.is_dir():
            sync_folder(self._manifest(job_uid, pod_uid).parent)
        self._settled(pod_uid)
        self._drop_unused_blobs(job_uid)
        self._drop_empty_job(job_uid)

    # ---- serving

    def newest(self, namespace: str, name: str) -> str | None:
        """The UID of the newest job of that name that ever sent something."""
        entry = read_record(self._alias(namespace, name), JobIdentity)
        return entry.uid if entry is not None else None

    def job(self, job_uid: str) -> JobIdentity | None:
        """Whose results are kept under that UID."""
        return read_record(self._jobs / job_uid / "job.json", JobIdentity)

    def manifest(self, job_uid: str, pod_uid: str) -> Manifest | None:
        """What one attempt brought home, whatever became of it."""
        return read_record(self._manifest(job_uid, pod_uid), Manifest)

    def manifest_bytes(self, job_uid: str, pod_uid: str) -> bytes | None:
        """The same as it is kept: a `Manifest` in JSON."""
        try:
            return self._manifest(job_uid, pod_uid).read_bytes()
        except FileNotFoundError:
            return None

    def published(self, job_uid: str) -> Manifest | None:
        """The job's results; None as long as the operator has not said which attempt's they are."""
        entry = read_record(self._jobs / job_uid / "published.json", PublishedNote)
        return self.manifest(job_uid, entry.pod_uid) if entry is not None else None

    def is_uploading(self, job_uid: str) -> bool:
        """Whether an upload is under way or waits for its verdict."""
        return any(self._staging.joinpath(job_uid).glob("*")) or any(self._jobs.joinpath(job_uid, "attempts").glob("*"))

    def open_blob(self, job_uid: str, sha256: str) -> BinaryIO:
        """Verified content, for reading; stays readable when it is removed meanwhile. Raises `FileNotFoundError`."""
        return self._blob(job_uid, sha256).open("rb")

    # ---- inside

    def _upload(self, job_uid: str, pod_uid: str) -> Path:
        return self._staging / job_uid / pod_uid

    def _blob(self, job_uid: str, sha256: str) -> Path:
        return self._jobs / job_uid / "blobs" / sha256

    def _manifest(self, job_uid: str, pod_uid: str) -> Path:
        return self._jobs / job_uid / "attempts" / f"{pod_uid}.json"

    def _alias(self, namespace: str, name: str) -> Path:
        return self._names / namespace / f"{name}.json"

    def _remember(self, job: JobIdentity) -> None:
        """Notes whose results these will be, and makes the job's name point to it unless a newer one has it."""
        known = self._jobs / job.uid / "job.json"
        if not known.exists():
            make_folder(known.parent)
            replace_file(known, json.encode(job), self._scratch)
        alias = self._alias(job.namespace, job.name)
        current = read_record(alias, JobIdentity)
        if current is None or (current.uid != job.uid and current.created_at <= job.created_at):
            make_folder(alias.parent)
            replace_file(alias, json.encode(job), self._scratch)

    def _missing(self, job_uid: str, pod_uid: str, plan: UploadPlan) -> tuple[BlobStatus, ...]:
        missing = []
        for sha256, size in {file.sha256: file.bytes_ for file in plan.files}.items():
            offset = self.offset(job_uid, pod_uid, sha256)
            if offset < size:
                missing.append(BlobStatus(sha256=sha256, offset=offset))
        return tuple(missing)

    def _verify_all(self, job_uid: str, pod_uid: str, plan: UploadPlan, stop: threading.Event) -> dict[str, int | None]:
        """Moves each blob that proves right to its job's content; the rows of those that some name calls a CSV."""
        blobs = self._jobs / job_uid / "blobs"
        make_folder(blobs)
        tables = {file.sha256 for file in plan.files if _is_csv(file.name)}
        rows: dict[str, int | None] = {}
        wrong: list[BlobStatus] = []
        for sha256, size in {file.sha256: file.bytes_ for file in plan.files}.items():
            stored = blobs / sha256
            partial = PartialBlob(self._upload(job_uid, pod_uid), sha256)
            if size == 0 and not stored.exists():
                replace_file(stored, b"", self._scratch)
            try:
                if stored.exists():
                    rows[sha256] = verify(stored, sha256, count_rows=sha256 in tables, stop=stop)
                else:
                    rows[sha256] = verify(partial.data, sha256, count_rows=sha256 in tables, stop=stop)
                    move_file(partial.data, stored)
            except Mismatch:
                stored.unlink(missing_ok=True)
                wrong.append(BlobStatus(sha256=sha256, offset=0))
            else:
                continue
            partial.remove()
        if wrong:
            raise BytesMissing(tuple(wrong))
        return rows

    def _settled(self, pod_uid: str) -> None:
        (self._pending / f"{pod_uid}.json").unlink(missing_ok=True)
        sync_folder(self._pending)

    def _drop_upload(self, job_uid: str, pod_uid: str) -> None:
        folder = self._upload(job_uid, pod_uid)
        if folder.is_dir():
            shutil.rmtree(folder)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()

    def _drop_unused_blobs(self, job_uid: str) -> None:
        used: set[str] = set()
        for path in (self._jobs / job_uid / "attempts").glob("*.json"):
            if (manifest := read_record(path, Manifest)) is not None:
                used.update(file.sha256 for file in manifest.files)
        for path in (self._staging / job_uid).glob("*/plan.json"):
            if (accepted := read_record(path, AcceptedPlan)) is not None:
                used.update(file.sha256 for file in accepted.plan.files)
        for blob in (self._jobs / job_uid / "blobs").glob("*"):
            if blob.name not in used:
                blob.unlink()

    def _drop_empty_job(self, job_uid: str) -> None:
        if self.is_uploading(job_uid) or (job := self.job(job_uid)) is None:
            return
        if self.newest(job.namespace, job.name) == job_uid:
            self._name_anew(job)
        shutil.rmtree(self._jobs / job_uid)

    def _name_anew(self, gone: JobIdentity) -> None:
        """Let the name of a job that goes stand for the newest that is left of that name, or for none."""
        jobs = (read_record(path, JobIdentity) for path in self._jobs.glob("*/job.json"))
        name = (gone.namespace, gone.name)
        left = [job for job in jobs if job is not None and (job.namespace, job.name) == name and job.uid != gone.uid]
        alias = self._alias(gone.namespace, gone.name)
        if left:
            replace_file(alias, json.encode(max(left, key=lambda job: job.created_at)), self._scratch)
        else:
            alias.unlink()


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def _contents(held: Manifest | UploadPlan) -> set[tuple[str, str]]:
    return {(file.name, file.sha256) for file in held.files}
