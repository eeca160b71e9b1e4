"""Uploads under way: plans, the bytes that came so far, and the step that makes an upload complete.

All calls block: they are made in threads. Where a docstring says 'changes the job', calls for one job must not overlap,
here and in `results`: the caller holds a lock for each job. Who may send what is not decided here.
"""

import logging
import shutil
import threading
import time
from collections.abc import Set
from datetime import datetime

from edgewise_agent.wire import BlobStatus, Manifest, ResultFile, UploadPlan, UploadStatus
from msgspec import json

from edgewise.gateway.durable import make_folder, move_file, replace_file
from edgewise.gateway.early import Early, EarlyFile
from edgewise.gateway.layout import Layout
from edgewise.gateway.names import Names
from edgewise.gateway.partial import BlobWriter, PartialBlob
from edgewise.gateway.records import (
    AcceptedPlan,
    AlreadyComplete,
    BytesMissing,
    JobIdentity,
    NoPlan,
    StoreDamaged,
    TooLate,
    read_record,
    sizes_of,
)
from edgewise.gateway.results import Results
from edgewise.gateway.usage import Usage
from edgewise.gateway.verify import Mismatch, verify

logger = logging.getLogger(__name__)


class Staging:
    """The uploads that are not complete. What is complete is in `results`."""

    def __init__(self, layout: Layout, names: Names, usage: Usage, results: Results, early: Early) -> None:
        self._at = layout
        self._names = names
        self._usage = usage
        self._results = results
        self._early = early

    def accept(self, job: JobIdentity, pod_uid: str, node: str, plan: UploadPlan) -> UploadStatus:
        """Takes an attempt's plan and says what is still to send. Changes the job.

        A plan that replaces an unfinished one keeps the bytes that both name; one that was sent ahead of the pod's end
        replaces no plan of the whole, however late it arrives. Raises `AlreadyComplete`, `TooLate`, `VolumeFull`.
        """
        if (manifest := self._results.manifest(job.uid, pod_uid)) is not None:
            if _contents(manifest) != _contents(plan):
                raise AlreadyComplete
            return UploadStatus(missing=(), complete=True)
        before = self.plan(job.uid, pod_uid)
        if plan.ahead and before is not None and not before.plan.ahead:
            raise TooLate
        self._names.remember(job)
        self._early.remember_run(job)
        folder = self._at.upload(job.uid, pod_uid)
        make_folder(folder)
        accepted = AcceptedPlan(node=node, plan=plan)
        if before != accepted:
            if before is not None:
                self._give_up_verified(job.uid, sizes_of(before.plan).keys() - sizes_of(plan).keys())
            replace_file(self._at.plan(job.uid, pod_uid), json.encode(accepted), self._at.scratch)
        wanted = sizes_of(plan)
        for leftover in folder.glob("*.part"):  # of the plan before, also if a crash came between
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
        if (manifest := self._results.manifest(job_uid, pod_uid)) is not None:
            self._drop_upload(job_uid, pod_uid)
            return manifest
        accepted = self.plan(job_uid, pod_uid)
        job = self._results.job(job_uid)
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
            logs_only=plan.logs_only,
            logs=tuple(ResultFile(name=log.name, bytes_=log.bytes_, sha256=log.sha256) for log in plan.logs),
        )
        make_folder(self._at.manifest(job_uid, pod_uid).parent)
        replace_file(self._at.manifest(job_uid, pod_uid), json.encode(manifest), self._at.scratch)
        self._drop_upload(job_uid, pod_uid)
        return manifest

    def keep_early(self, job_uid: str, pod_uid: str, now: datetime, stop: threading.Event) -> None:
        """Keeps for good what has come of a stream's run that still runs: verified, and listed. Changes the job.

        Of any other job nothing counts before its attempt is complete. Content with a wrong hash is dropped, and comes
        again with the plan of the whole. Raises `VolumeFull`, and `InterruptedError` soon after `stop` is set.
        """
        accepted, job = self.plan(job_uid, pod_uid), self._results.job(job_uid)
        if accepted is None or job is None or not job.stream or not accepted.plan.ahead:
            return
        known = self._early.files(job_uid, pod_uid)
        kept: list[EarlyFile] = []
        blobs = self._at.jobs / job_uid / "blobs"
        make_folder(blobs)
        for file in accepted.plan.files:
            before = known.get(file.name)
            if before is not None and before.sha256 == file.sha256:
                continue
            if self.offset(job_uid, pod_uid, file.sha256) < file.bytes_:
                continue
            try:
                rows = self._verify(job_uid, pod_uid, file.sha256, file.bytes_, tables=_is_csv(file.name), stop=stop)
            except Mismatch as error:
                logger.warning("job %s, pod %s: %r has to come again: %s", job_uid, pod_uid, file.name, error)
                continue
            kept.append(EarlyFile(name=file.name, bytes_=file.bytes_, sha256=file.sha256, rows=rows, at=now))
        if kept:
            self._usage.changed(job_uid)
            self._early.add(job_uid, pod_uid, kept)

    def discard(self, job_uid: str, pod_uid: str) -> None:
        """Drops an upload that is under way, and what was verified for it alone; nothing of a complete one.

        Changes the job. Raises `VolumeFull`, before anything is removed.
        """
        if any((self._at.jobs / job_uid / "blobs").glob("*")):
            self._results.begin_removal(job_uid)
        self._drop_upload(job_uid, pod_uid)
        self._results.tidy(job_uid)

    def idle_uploads(self, seconds: float) -> list[tuple[JobIdentity, str]]:
        """The uploads under way that nothing was written to for so long, each as its job and pod UID."""
        before = time.time() - seconds
        found = []
        for folder in self._at.staging.glob("*/*"):
            try:
                newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
                job = self._results.job(folder.parent.name)
            except FileNotFoundError:
                continue  # just removed by another call
            except StoreDamaged as error:
                logger.error("%s", error)  # noqa: TRY400 - the text says all
                continue
            if newest < before and job is not None:
                found.append((job, folder.name))
        return found

    # ---- inside

    def _give_up_verified(self, job_uid: str, contents: Set[str]) -> None:
        """If any of these was verified already, the next round is to remove what nobody counts on."""
        if any(self._at.blob(job_uid, sha256).exists() for sha256 in contents):
            self._results.begin_removal(job_uid)

    def _missing(self, job_uid: str, pod_uid: str, plan: UploadPlan) -> tuple[BlobStatus, ...]:
        missing = []
        for sha256, size in sizes_of(plan).items():
            offset = self.offset(job_uid, pod_uid, sha256)
            if offset < size:
                missing.append(BlobStatus(sha256=sha256, offset=offset))
        return tuple(missing)

    def _verify_all(self, job_uid: str, pod_uid: str, plan: UploadPlan, stop: threading.Event) -> dict[str, int | None]:
        """Moves each blob that proves right to its job's content; the rows of those that some name calls a CSV."""
        make_folder(self._at.jobs / job_uid / "blobs")
        tables = {file.sha256 for file in plan.files if _is_csv(file.name)}
        rows: dict[str, int | None] = {}
        wrong: list[BlobStatus] = []
        for sha256, size in sizes_of(plan).items():
            try:
                rows[sha256] = self._verify(job_uid, pod_uid, sha256, size, tables=sha256 in tables, stop=stop)
            except Mismatch:
                wrong.append(BlobStatus(sha256=sha256, offset=0))
        if wrong:
            raise BytesMissing(tuple(wrong))
        return rows

    def _verify(
        self, job_uid: str, pod_uid: str, sha256: str, size: int, *, tables: bool, stop: threading.Event
    ) -> int | None:
        """Moves a blob that proves right to its job's content, and counts its rows if it is a table.

        One that is wrong is removed. Raises `Mismatch`, `InterruptedError`.
        """
        stored = self._at.blob(job_uid, sha256)
        partial = PartialBlob(self._at.upload(job_uid, pod_uid), sha256)
        if size == 0 and not stored.exists():
            replace_file(stored, b"", self._at.scratch)
        try:
            if stored.exists():
                return verify(stored, sha256, count_rows=tables, stop=stop)
            partial.cut_to(size)
            rows = verify(partial.data, sha256, count_rows=tables, stop=stop)
            move_file(partial.data, stored)
        except Mismatch:
            stored.unlink(missing_ok=True)
            partial.remove()
            raise
        return rows

    def _drop_upload(self, job_uid: str, pod_uid: str) -> None:
        folder = self._at.upload(job_uid, pod_uid)
        if folder.is_dir():
            shutil.rmtree(folder)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def _contents(held: Manifest | UploadPlan) -> set[tuple[str, str]]:
    """What makes two attempts' results the same; logs are none, and may have grown."""
    return {(file.name, file.sha256) for file in held.files}
