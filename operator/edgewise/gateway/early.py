"""What came home of a stream's runs while they ran, and which runs each stream has had.

A file that has come home stays, whatever the app does with its own copy: each is a line of a log beside the run's
manifest, which is written at the run's end and may name less. All calls block: they are made in threads. Calls for one
job must not overlap where they change it: the caller holds a lock for each job. Reads and writes no content.
"""

import os
from collections.abc import Collection, Iterable, Set
from datetime import datetime

from edgewise_agent.wire import SHA256, Bytes, FileName
from msgspec import DecodeError, Struct, json

from edgewise.gateway.durable import make_folder, noticing_full_volume, replace_file, sync_folder, write_all
from edgewise.gateway.layout import Layout
from edgewise.gateway.records import JobIdentity, StoreDamaged, read_record


class EarlyFile(Struct, frozen=True, kw_only=True):
    """A file that came home before its run ended; `at`: when. `rows` as in `ResultFile`."""

    name: FileName
    bytes_: Bytes
    sha256: SHA256
    rows: int | None
    at: datetime


class Early:
    """The logs of early files, and the runs of streams."""

    def __init__(self, layout: Layout) -> None:
        self._at = layout

    # ---- files

    def pods(self, job_uid: str) -> list[str]:
        """The pods of the job of which files came home early."""
        return [path.stem for path in (self._at.jobs / job_uid / "early").glob("*.jsonl")]

    def files(self, job_uid: str, pod_uid: str) -> dict[str, EarlyFile]:
        """The files that came home early, by name; of one name the last. Raises `StoreDamaged`."""
        path = self._at.early(job_uid, pod_uid)
        try:
            *lines, _ = path.read_bytes().split(b"\n")  # a crash leaves a last line without its end
        except FileNotFoundError:
            return {}
        try:
            files = [json.decode(line, type=EarlyFile) for line in lines]
        except (DecodeError, UnicodeDecodeError) as error:
            raise StoreDamaged(
                f"{path} is damaged ({error}): restore it from a backup, or remove it to forget what it says"
            ) from error
        return {file.name: file for file in files}

    def digests(self, job_uid: str, pod_uid: str) -> set[str]:
        """The contents that these files have."""
        return {file.sha256 for file in self.files(job_uid, pod_uid).values()}

    def add(self, job_uid: str, pod_uid: str, files: Iterable[EarlyFile]) -> None:
        """Notes files whose content is on the volume; on the disk when this returns. Raises `VolumeFull`."""
        path = self._at.early(job_uid, pod_uid)
        make_folder(path.parent)
        with noticing_full_volume():
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(descriptor, end := _end_of_lines(descriptor))
                os.lseek(descriptor, end, os.SEEK_SET)
                write_all(descriptor, _lines(files))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(path.parent)

    def overdue(self, job_uid: str, pod_uid: str, until: datetime, offered: Set[str]) -> set[str]:
        """The names of the files that came home until then, but for those whose content is `offered`."""
        files = self.files(job_uid, pod_uid).values()
        return {file.name for file in files if file.at <= until and file.sha256 not in offered}

    def drop(self, job_uid: str, pod_uid: str, names: Collection[str]) -> None:
        """Forgets these files. Idempotent. Raises `VolumeFull`, and then forgets none."""
        path = self._at.early(job_uid, pod_uid)
        left = [file for file in self.files(job_uid, pod_uid).values() if file.name not in names]
        if left:
            replace_file(path, _lines(left), self._at.scratch)
        elif path.exists():
            path.unlink()
            sync_folder(path.parent)

    # ---- runs

    def remember_run(self, job: JobIdentity) -> None:
        """Notes that the job is a run of its stream, if it is one. Raises `VolumeFull`."""
        if job.stream and not (path := self._at.run(job.namespace, job.stream, job.uid)).exists():
            make_folder(path.parent)
            replace_file(path, json.encode(job), self._at.scratch)

    def forget_run(self, job: JobIdentity) -> None:
        """Nothing of the run is here any more. Idempotent."""
        if job.stream:
            self._at.run(job.namespace, job.stream, job.uid).unlink(missing_ok=True)

    def runs(self, namespace: str, stream: str) -> list[JobIdentity]:
        """The runs of all streams that have had that name, oldest first."""
        paths = (self._at.streams / namespace / stream).glob("*.json")
        runs = [run for path in paths if (run := read_record(path, JobIdentity)) is not None]
        return sorted(runs, key=lambda run: (run.created_at, run.uid))


def _lines(files: Iterable[EarlyFile]) -> bytes:
    return b"".join(json.encode(file) + b"\n" for file in files)


def _end_of_lines(descriptor: int) -> int:
    """Where the last whole line of a file ends."""
    size = os.fstat(descriptor).st_size
    position = size
    while position > 0:
        start = max(0, position - 4096)
        found = os.pread(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
