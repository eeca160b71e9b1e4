"""What has come home: manifests and their content, the operator's verdicts, what is served, and what is removed.

All calls block: they are made in threads. Where a docstring says 'changes the job', calls for one job must not overlap,
here and in `staging`: the caller holds a lock for each job. Who may do what, and which attempt counts, is decided
elsewhere.
"""

import logging
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import BinaryIO

from edgewise_agent.wire import Manifest, ResultFile, Verdict
from msgspec import Struct, json

from edgewise.gateway.durable import make_folder, replace_file, sync_folder
from edgewise.gateway.early import Early
from edgewise.gateway.layout import Layout
from edgewise.gateway.names import Names
from edgewise.gateway.records import (
    AcceptedPlan,
    Arrival,
    AsideNote,
    Expirable,
    JobIdentity,
    KeptAttempt,
    PublishedNote,
    RemovedNote,
    RetentionNote,
    StoreDamaged,
    read_record,
    sizes_of,
)
from edgewise.gateway.usage import Usage

logger = logging.getLogger(__name__)


class Results:
    """The results of all jobs, and of all their attempts that are complete."""

    def __init__(self, layout: Layout, names: Names, usage: Usage, early: Early) -> None:
        self._at = layout
        self._names = names
        self._usage = usage
        self._early = early

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
        self.begin_removal(job_uid)
        published = read_record(self._at.published(job_uid), PublishedNote)
        if published is not None and published.pod_uid == pod_uid:
            self._at.published(job_uid).unlink()
        for record in (self._at.manifest, self._at.aside, self._at.removed):
            path = record(job_uid, pod_uid)
            if path.exists():
                path.unlink()
                sync_folder(path.parent)
        self.tidy(job_uid)

    # ---- removal

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
        self.begin_removal(job_uid)
        make_folder(note.parent)
        replace_file(note, json.encode(RemovedNote(at=now, why=why)), self._at.scratch)
        self.tidy(job_uid)

    def expire_early(self, job_uid: str, until: datetime) -> int:
        """Removes the files of a stream's run that came home until then while it ran; how many there were.

        Those that their device still offers stay, or it would send them again. Changes the job. Idempotent. Raises
        `VolumeFull`.
        """
        count = 0
        for pod_uid in self._early.pods(job_uid):
            accepted = read_record(self._at.plan(job_uid, pod_uid), AcceptedPlan)
            offered = sizes_of(accepted.plan).keys() if accepted is not None else frozenset[str]()
            if names := self._early.overdue(job_uid, pod_uid, until, offered):
                self.begin_removal(job_uid)
                self._early.drop(job_uid, pod_uid, names)
                count += len(names)
        if count:
            self.tidy(job_uid)
        return count

    def forget(self, job_uid: str) -> None:
        """Removes what is left of a deleted job, once no attempt has content any more. Changes the job. Idempotent."""
        pods = [path.stem for path in (self._at.jobs / job_uid / "attempts").glob("*.json")]
        if self._early.pods(job_uid):
            return
        if all(self._at.removed(job_uid, pod_uid).exists() for pod_uid in pods):
            for pod_uid in pods:
                self.remove(job_uid, pod_uid)

    def begin_removal(self, job_uid: str) -> None:
        """Leaves a mark, so that `tidy` finds what was to go after a crash. Changes the job. Raises `VolumeFull`."""
        if not self._at.untidy(job_uid).exists():
            replace_file(self._at.untidy(job_uid), b"", self._at.scratch)

    def tidy(self, job_uid: str) -> None:
        """Ends a removal, also one that a crash has cut short. Changes the job. Idempotent."""
        if self._at.untidy(job_uid).exists():
            self._drop_unused_blobs(job_uid)
            self._at.untidy(job_uid).unlink()
            self._usage.changed(job_uid)
        self._drop_empty_job(job_uid)

    # ---- sizes

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
        """Whether an upload of files is under way or waits for its verdict. Logs alone are none."""
        for folder in (self._at.staging / job_uid).glob("*"):
            accepted = read_record(self._at.plan(job_uid, folder.name), _Accepted)
            if accepted is None or not accepted.plan.logs_only:
                return True
        for path in (self._at.jobs / job_uid / "attempts").glob("*.json"):
            if self.verdict(job_uid, path.stem) is not Verdict.PENDING:
                continue
            kept = read_record(path, _Nature)
            if kept is not None and not kept.logs_only:
                return True
        return False

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

    def _drop_unused_blobs(self, job_uid: str) -> None:
        used: set[str] = set()
        for path in (self._at.jobs / job_uid / "attempts").glob("*.json"):
            if self._at.removed(job_uid, path.stem).exists():
                continue
            if (manifest := read_record(path, Manifest)) is not None:
                used.update(sizes_of(manifest))
        for pod_uid in self._early.pods(job_uid):
            used.update(self._early.digests(job_uid, pod_uid))
        for path in (self._at.staging / job_uid).glob("*/plan.json"):
            if (accepted := read_record(path, AcceptedPlan)) is not None:
                used.update(sizes_of(accepted.plan))
        for blob in (self._at.jobs / job_uid / "blobs").glob("*"):
            if blob.name not in used:
                blob.unlink()

    def _drop_empty_job(self, job_uid: str) -> None:
        held = (
            (self._at.staging / job_uid).glob("*"),
            (self._at.jobs / job_uid / "attempts").glob("*.json"),
            (self._at.jobs / job_uid / "early").glob("*.jsonl"),
        )
        if any(any(entries) for entries in held) or not (self._at.jobs / job_uid).is_dir():
            return
        if (job := self.job(job_uid)) is not None:
            self._names.forget(job)
            self._early.forget_run(job)
        # The record that it is there goes last: a crash before leaves a job that the next call finds again.
        for part in (self._at.jobs / job_uid).iterdir():
            if part.is_dir():
                shutil.rmtree(part)
            elif part != self._at.job(job_uid):
                part.unlink()
        shutil.rmtree(self._at.jobs / job_uid)
        self._usage.changed(job_uid)


class _Nature(Struct, frozen=True, rename="camel"):
    """All of a plan or manifest that says whether there may be files."""

    logs_only: bool = False


class _Accepted(Struct, frozen=True):
    """The same of an accepted plan."""

    plan: _Nature


class _Completion(Struct, frozen=True, rename="camel"):
    """What retention reads of a manifest."""

    completed_at: datetime
