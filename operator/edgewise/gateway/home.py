"""Everything that has come home of one run of a stream: while it ran, and at its end. Reads records, serves nothing."""

from datetime import datetime

from edgewise_agent.wire import ResultFile
from msgspec import Struct

from edgewise.gateway.early import Early
from edgewise.gateway.results import Results


class HomeFile(Struct, frozen=True, kw_only=True):
    """A file of a run; `at`: when it came home."""

    file: ResultFile
    at: datetime


def files_of_run(results: Results, early: Early, job_uid: str) -> list[HomeFile]:
    """The run's files by name; of one name the one that came last. What was removed is left out.

    Raises `StoreDamaged`.
    """
    found: dict[str, HomeFile] = {}
    for pod_uid in early.pods(job_uid):
        for one in early.files(job_uid, pod_uid).values():
            file = ResultFile(name=one.name, bytes_=one.bytes_, sha256=one.sha256, rows=one.rows)
            found[one.name] = HomeFile(file=file, at=one.at)
    for attempt in results.attempts(job_uid):
        if attempt.removed is None and not attempt.manifest.logs_only:
            for file in attempt.manifest.files:
                before = found.get(file.name)
                at = before.at if before and before.file.sha256 == file.sha256 else attempt.manifest.completed_at
                found[file.name] = HomeFile(file=file, at=at)
    return [found[name] for name in sorted(found)]
