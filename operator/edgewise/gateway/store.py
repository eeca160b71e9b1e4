"""The results volume: uploads, verdicts, what is served, and what is removed.

All calls block: they are made in threads. The store never decides who may do what, nor which attempt counts. Calls
for one job must not overlap where the docstring says 'changes the job': the caller holds a lock for each job.
"""

import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from edgewise_agent.wire import BlobStatus, Manifest, ResultFile, UploadPlan, UploadStatus, Verdict
from msgspec import Struct, json

from edgewise.gateway.durable import make_folder, move_file, replace_file, sync_folder
from edgewise.gateway.layout import Layout
from edgewise.gateway.names import Names
from edgewise.gateway.partial import BlobWriter, PartialBlob
from edgewise.gateway.records import (
    AcceptedPlan,
    AlreadyComplete,
    Arrival,
    AsideNote,
    BytesMissing,
    Expirable,
    JobIdentity,
    KeptAttempt,
    NoPlan,
    PublishedNote,
    RemovedNote,
    RetentionNote,
    StoreBusy,
    StoreDamaged,
    TooLate,
    read_record,
    sizes_of,
)
from edgewise.gateway.usage import Usage
from edgewise.gateway.verify import Mismatch, verify

logger = logging.getLogger(__name__)


class Store:
    """Everything that the gateway keeps, under one folder."""

    def __init__(self, root: Path) -> None:
        self._at = Layout(root)
        self._names = Names(self._at)
        self._usage = Usage(self._at)
        self._lock = -1

    def open(self) -> None:
        """Makes the folders, takes the volume for this process and drops what a crash left unfinished.

        Raises `StoreBusy` while another process has it.
        """
        for folder in (self._at.staging, self._at.jobs, self._at.names, self._at.bundles, self._at.scratch):
            make_folder(folder)
        lock = os.open(self._at.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StoreBusy(f"{self._at.root} is in use by another gateway") from error
        self._lock = lock
        for leftover in self._at.scratch.iterdir():
            leftover.unlink()

    def close(self) -> None:
        """Gives the volume free. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def free_bytes(self) -> int:
        """How much more the volume takes."""
        volume = os.statvfs(self._at.root)
        return volume.f_bavail * volume.f_frsize

    # ---- uploads

    def accept(self, job: JobIdentity, pod_uid: str, node: str, plan: UploadPlan) -> UploadStatus:
        """Takes an attempt's plan and says what is still to send. Changes the job.

        A plan that replaces an unfinished one keeps the bytes that both name; one that was sent ahead of the pod's end
        replaces no plan of the whole, however late it arrives. Raises `AlreadyComplete`, `TooLate`, `VolumeFull`.
        """
        if (manifest := self.manifest(job.uid, pod_uid)) is not None:
            if _contents(manifest) != _contents(plan):
                raise AlreadyComplete
            return UploadStatus(missing=(), complete=True)
        before = self.plan(job.uid, pod_uid)
        if plan.ahead and before is not None and not before.plan.ahead:
            raise TooLate
        self._names.remember(job)
        folder = self._at.upload(job.uid, pod_uid)
        make_folder(folder)
        accepted = AcceptedPlan(node=node, plan=plan)
        if before != accepted:
            if before is not None and any(
                self._at.blob(job.uid, sha256).exists() for sha256 in sizes_of(before.plan).keys() - sizes_of(plan)
            ):
                self._begin_removal(job.uid)  # of what was verified for the plan before; the next round ends it
            replace_file(self._at.plan(job.uid, pod_uid), json.encode(accepted), self._at.scratch)
            wanted = sizes_of(plan)
            for leftover in folder.glob("*.part"):
                if leftover.stem not in wanted:
                    PartialBlob(folder, leftover.stem).remove()
        return UploadStatus(missing=self._missing(job.uid, pod_uid, plan))

    def plan(self, job_uid: str, pod_uid: str) -> AcceptedPlan | None:
        """The plan of an upload that is under way."""
        return read_record(self._at.plan(job_uid, pod_uid), AcceptedPlan)

    def offset(self, job_uid: str, pod_uid: str, sha256: str) -> int:
        """How many bytes of a blob are safely held, be it by this upload or by an earlier attempt."""
        try:
            return self._at.blob(job_uid, sha256).stat().st_size
        except FileNotFoundError:
            return PartialBlob(self._at.upload(job_uid, pod_uid), sha256).offset()

    def append(self, job_uid: str, pod_uid: str, sha256: str) -> BlobWriter:
        """Opens a blob of an accepted plan for its next bytes. One writer a blob. Raises `VolumeFull`."""
        return PartialBlob(self._at.upload(job_uid, pod_uid), sha256).append()

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
        if accepted is None or job is None or accepted.plan.ahead:
            raise NoPlan
        plan = accepted.plan
        if missing := self._missing(job_uid, pod_uid, plan):
            raise BytesMissing(missing)
        try:
            rows = self._verify_all(job_uid, pod_uid, plan, stop)
        finally:
            self._usage.changed(job_uid)
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
            logs=tuple(ResultFile(name=log.name, bytes_=log.bytes_, sha256=log.sha256) for log in plan.logs),
        )
        make_folder(self._at.manifest(job_uid, pod_uid).parent)
        replace_file(self._at.manifest(job_uid, pod_uid), json.encode(manifest), self._at.scratch)
        self._drop_upload(job_uid, pod_uid)
        return manifest

    def discard(self, job_uid: str, pod_uid: str) -> None:
        """Drops an upload that is under way, and what was verified for it alone; nothing of a complete one.

        Changes the job. Raises `VolumeFull`, before anything is removed.
        """
        if any((self._at.jobs / job_uid / "blobs").glob("*")):
            self._begin_removal(job_uid)
        self._drop_upload(job_uid, pod_uid)
        self.tidy(job_uid)

    def idle_uploads(self, seconds: float) -> list[tuple[JobIdentity, str]]:
        """The uploads under way that nothing was written to for so long, each as its job and pod UID."""
        before = time.time() - seconds
        found = []
        for folder in self._at.staging.glob("*/*"):
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
        """The job and pod UID of each manifest without a final verdict, oldest first. Looks at every job."""
        found = []
        for path in self._at.jobs.glob("*/attempts/*.json"):
            job_uid, pod_uid = path.parent.parent.name, path.stem
            try:
                if self.verdict(job_uid, pod_uid) is Verdict.PENDING:
                    found.append((path.stat().st_mtime_ns, job_uid, pod_uid))
            except FileNotFoundError:
                continue  # just removed by another call
            except StoreDamaged as error:
                logger.error("%s", error)  # noqa: TRY400 - the text says all
        return [(job_uid, pod_uid) for _, job_uid, pod_uid in sorted(found)]

    def verdict(self, job_uid: str, pod_uid: str) -> Verdict:
        """What the operator has made of a manifest that is here; Pending if nothing final."""
        published = read_record(self._at.published(job_uid), PublishedNote)
        if published is not None and published.pod_uid == pod_uid:
            return Verdict.PUBLISHED
        return Verdict.SUPERSEDED if self._at.aside(job_uid, pod_uid).exists() else Verdict.PENDING

    def publish(self, job_uid: str, pod_uid: str, now: datetime) -> None:
        """Makes an attempt's files the job's results, and sets aside those that were. Changes the job. Idempotent.

        Raises `VolumeFull`.
        """
        if not self._at.manifest(job_uid, pod_uid).exists():
            return
        before = read_record(self._at.published(job_uid), PublishedNote)
        if before is None or before.pod_uid != pod_uid:
            if before is not None:
                self.set_aside(job_uid, before.pod_uid, now)
            note = json.encode(PublishedNote(pod_uid=pod_uid))
            replace_file(self._at.published(job_uid), note, self._at.scratch)

    def set_aside(self, job_uid: str, pod_uid: str, now: datetime) -> None:
        """Keeps an attempt's files without making them the job's results. Changes the job. Idempotent.

        Raises `VolumeFull`.
        """
        note = self._at.aside(job_uid, pod_uid)
        if self._at.manifest(job_uid, pod_uid).exists() and not note.exists():
            make_folder(note.parent)
            replace_file(note, json.encode(AsideNote(at=now)), self._at.scratch)

    def remove(self, job_uid: str, pod_uid: str) -> None:
        """Removes a complete attempt and the content that no other attempt has. Changes the job. Idempotent."""
        if not self._at.job(job_uid).exists():
            return
        self._begin_removal(job_uid)
        published = read_record(self._at.published(job_uid), PublishedNote)
        if published is not None and published.pod_uid == pod_uid:
            self._at.published(job_uid).unlink()
        for record in (self._at.manifest, self._at.aside, self._at.removed):
            path = record(job_uid, pod_uid)
            if path.exists():
                path.unlink()
                sync_folder(path.parent)
        self.tidy(job_uid)

    # ---- retention

    def job_uids(self) -> list[str]:
        """All jobs of which anything is here."""
        return [folder.name for folder in self._at.jobs.iterdir()]

    def keep_for(self, job_uid: str, results_seconds: float | None) -> None:
        """Notes how long the job's content is kept after its completion; None: for ever. Changes the job. Idempotent.

        Raises `VolumeFull`.
        """
        path = self._at.retention(job_uid)
        if not self._at.job(job_uid).exists() or self.kept_for(job_uid) == results_seconds:
            return
        if results_seconds is None:
            path.unlink()
            sync_folder(path.parent)
        else:
            replace_file(path, json.encode(RetentionNote(results_seconds=results_seconds)), self._at.scratch)

    def kept_for(self, job_uid: str) -> float | None:
        """How many seconds after its completion a job's content is kept; None: for ever."""
        note = read_record(self._at.retention(job_uid), RetentionNote)
        return note.results_seconds if note is not None else None

    def expirable(self, job_uid: str) -> list[Expirable]:
        """The job's attempts with a final verdict whose content is here."""
        found = []
        for path in (self._at.jobs / job_uid / "attempts").glob("*.json"):
            pod_uid = path.stem
            if self._at.removed(job_uid, pod_uid).exists() or self.verdict(job_uid, pod_uid) is Verdict.PENDING:
                continue
            completed = read_record(path, _Completion)
            aside = read_record(self._at.aside(job_uid, pod_uid), AsideNote)
            if completed is None:
                continue
            published = self.verdict(job_uid, pod_uid) is Verdict.PUBLISHED
            aside_at = aside.at if aside is not None and not published else None
            found.append(Expirable(pod_uid=pod_uid, completed_at=completed.completed_at, aside_at=aside_at))
        return found

    def expire(self, job_uid: str, pod_uid: str, now: datetime, why: str) -> None:
        """Removes the content that only this attempt counts on; its manifest stays. Changes the job. Idempotent.

        Raises `VolumeFull`, before anything is removed.
        """
        note = self._at.removed(job_uid, pod_uid)
        if not self._at.manifest(job_uid, pod_uid).exists() or note.exists():
            return
        self._begin_removal(job_uid)
        make_folder(note.parent)
        replace_file(note, json.encode(RemovedNote(at=now, why=why)), self._at.scratch)
        self.tidy(job_uid)

    def forget(self, job_uid: str) -> None:
        """Removes what is left of a deleted job, once no attempt has content any more. Changes the job. Idempotent."""
        pods = [path.stem for path in (self._at.jobs / job_uid / "attempts").glob("*.json")]
        if all(self._at.removed(job_uid, pod_uid).exists() for pod_uid in pods):
            for pod_uid in pods:
                self.remove(job_uid, pod_uid)

    def tidy(self, job_uid: str) -> None:
        """Ends a removal, also one that a crash has cut short. Changes the job. Idempotent."""
        if self._at.untidy(job_uid).exists():
            self._drop_unused_blobs(job_uid)
            self._at.untidy(job_uid).unlink()
            self._usage.changed(job_uid)
        self._drop_empty_job(job_uid)

    def held_bytes(self, namespace: str, without: frozenset[tuple[str, str]]) -> int:
        """How much the jobs of a namespace take on the volume, the uploads under way of `without` left out."""
        return self._usage.held_bytes(namespace, without)

    def new_bytes(self, job_uid: str, sizes: Mapping[str, int]) -> int:
        """How much those contents will add to what the job has."""
        return sum(size for sha256, size in sizes.items() if not self._at.blob(job_uid, sha256).exists())

    # ---- serving

    def newest(self, namespace: str, name: str) -> str | None:
        """The UID of the newest job of that name that ever sent something."""
        return self._names.newest(namespace, name)

    def job(self, job_uid: str) -> JobIdentity | None:
        """Whose results are kept under that UID."""
        return read_record(self._at.job(job_uid), JobIdentity)

    def manifest(self, job_uid: str, pod_uid: str) -> Manifest | None:
        """What one attempt brought home, whatever became of it."""
        return read_record(self._at.manifest(job_uid, pod_uid), Manifest)

    def arrival(self, job_uid: str, pod_uid: str) -> Arrival | None:
        """Who brought a complete attempt home; cheap however many files it has."""
        return read_record(self._at.manifest(job_uid, pod_uid), Arrival)

    def manifest_bytes(self, job_uid: str, pod_uid: str) -> bytes | None:
        """The same as it is kept: a `Manifest` in JSON."""
        try:
            return self._at.manifest(job_uid, pod_uid).read_bytes()
        except FileNotFoundError:
            return None

    def published(self, job_uid: str) -> Manifest | None:
        """The job's results; None as long as the operator has not said which attempt's they are."""
        entry = read_record(self._at.published(job_uid), PublishedNote)
        return self.manifest(job_uid, entry.pod_uid) if entry is not None else None

    def attempts(self, job_uid: str) -> list[KeptAttempt]:
        """What the job's attempts brought home, in the order of their numbers; of equal ones the latest comes last."""
        kept = []
        for path in (self._at.jobs / job_uid / "attempts").glob("*.json"):
            if (manifest := read_record(path, Manifest)) is not None:
                verdict, removed = self.verdict(job_uid, manifest.pod_uid), self.removed(job_uid, manifest.pod_uid)
                kept.append(KeptAttempt(manifest=manifest, verdict=verdict, removed=removed))
        return sorted(kept, key=lambda attempt: (attempt.manifest.attempt, attempt.manifest.completed_at))

    def removed(self, job_uid: str, pod_uid: str) -> RemovedNote | None:
        """When and why an attempt's content was removed; None if it was not."""
        return read_record(self._at.removed(job_uid, pod_uid), RemovedNote)

    def is_uploading(self, job_uid: str) -> bool:
        """Whether an upload is under way or waits for its verdict."""
        if any((self._at.staging / job_uid).glob("*")):
            return True
        pods = [path.stem for path in (self._at.jobs / job_uid / "attempts").glob("*.json")]
        return any(self.verdict(job_uid, pod_uid) is Verdict.PENDING for pod_uid in pods)

    def lost_of(self, job_uid: str, files: Iterable[ResultFile]) -> ResultFile | None:
        """The first of these files whose content is not here, or not in its full size; None if all are."""
        for file in files:
            try:
                if self._at.blob(job_uid, file.sha256).stat().st_size != file.bytes_:
                    return file
            except FileNotFoundError:
                return file
        return None

    def open_blob(self, job_uid: str, sha256: str) -> BinaryIO:
        """Verified content, for reading; stays readable when it is removed meanwhile. Raises `FileNotFoundError`."""
        return self._at.blob(job_uid, sha256).open("rb")

    # ---- inside

    def _missing(self, job_uid: str, pod_uid: str, plan: UploadPlan) -> tuple[BlobStatus, ...]:
        missing = []
        for sha256, size in sizes_of(plan).items():
            offset = self.offset(job_uid, pod_uid, sha256)
            if offset < size:
                missing.append(BlobStatus(sha256=sha256, offset=offset))
        return tuple(missing)

    def _verify_all(self, job_uid: str, pod_uid: str, plan: UploadPlan, stop: threading.Event) -> dict[str, int | None]:
        """Moves each blob that proves right to its job's content; the rows of those that some name calls a CSV."""
        blobs = self._at.jobs / job_uid / "blobs"
        make_folder(blobs)
        tables = {file.sha256 for file in plan.files if _is_csv(file.name)}
        rows: dict[str, int | None] = {}
        wrong: list[BlobStatus] = []
        for sha256, size in sizes_of(plan).items():
            stored = blobs / sha256
            partial = PartialBlob(self._at.upload(job_uid, pod_uid), sha256)
            if size == 0 and not stored.exists():
                replace_file(stored, b"", self._at.scratch)
            try:
                if stored.exists():
                    rows[sha256] = verify(stored, sha256, count_rows=sha256 in tables, stop=stop)
                else:
                    partial.cut_to(size)
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

    def _drop_upload(self, job_uid: str, pod_uid: str) -> None:
        folder = self._at.upload(job_uid, pod_uid)
        if folder.is_dir():
            shutil.rmtree(folder)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()

    def _begin_removal(self, job_uid: str) -> None:
        """From here on a crash leaves a mark, so that `tidy` finds what was to go."""
        if not self._at.untidy(job_uid).exists():
            replace_file(self._at.untidy(job_uid), b"", self._at.scratch)

    def _drop_unused_blobs(self, job_uid: str) -> None:
        used: set[str] = set()
        for path in (self._at.jobs / job_uid / "attempts").glob("*.json"):
            if self._at.removed(job_uid, path.stem).exists():
                continue
            if (manifest := read_record(path, Manifest)) is not None:
                used.update(sizes_of(manifest))
        for path in (self._at.staging / job_uid).glob("*/plan.json"):
            if (accepted := read_record(path, AcceptedPlan)) is not None:
                used.update(sizes_of(accepted.plan))
        for blob in (self._at.jobs / job_uid / "blobs").glob("*"):
            if blob.name not in used:
                blob.unlink()

    def _drop_empty_job(self, job_uid: str) -> None:
        held = ((self._at.staging / job_uid).glob("*"), (self._at.jobs / job_uid / "attempts").glob("*.json"))
        if any(any(entries) for entries in held) or not (self._at.jobs / job_uid).is_dir():
            return
        if (job := self.job(job_uid)) is not None:
            self._names.forget(job)
        # The record that it is there goes last: a crash before leaves a job that the next call finds again.
        for part in (self._at.jobs / job_uid).iterdir():
            if part.is_dir():
                shutil.rmtree(part)
            elif part != self._at.job(job_uid):
                part.unlink()
        shutil.rmtree(self._at.jobs / job_uid)
        self._usage.changed(job_uid)


class _Completion(Struct, frozen=True, rename="camel"):
    """What retention reads of a manifest."""

    completed_at: datetime


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def _contents(held: Manifest | UploadPlan) -> set[tuple[str, str]]:
    """What makes two attempts' results the same; logs are none, and may have grown."""
    return {(file.name, file.sha256) for file in held.files}
