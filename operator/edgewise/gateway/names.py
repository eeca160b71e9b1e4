"""Which job a name stands for: of several that had it one after the other, the one created last."""

from msgspec import json

from edgewise.gateway.durable import make_folder, replace_file
from edgewise.gateway.layout import Layout
from edgewise.gateway.records import JobIdentity, read_record


class Names:
    """The records of jobs, and of the newest job of each name."""

    def __init__(self, layout: Layout) -> None:
        self._at = layout

    def newest(self, namespace: str, name: str) -> str | None:
        """The UID of the newest job of that name that is remembered."""
        entry = read_record(self._at.name(namespace, name), JobIdentity)
        return entry.uid if entry is not None else None

    def remember(self, job: JobIdentity) -> None:
        """Notes whose results these will be, and makes the job's name point to it unless a newer one has it."""
        known = self._at.job(job.uid)
        if not known.exists():
            make_folder(known.parent)
            replace_file(known, json.encode(job), self._at.scratch)
        alias = self._at.name(job.namespace, job.name)
        current = read_record(alias, JobIdentity)
        if current is None or (current.uid != job.uid and current.created_at <= job.created_at):
            make_folder(alias.parent)
            replace_file(alias, json.encode(job), self._at.scratch)

    def forget(self, gone: JobIdentity) -> None:
        """Lets the name of a job that goes stand for the newest that is left of that name, or for none."""
        if self.newest(gone.namespace, gone.name) != gone.uid:
            return
        jobs = (read_record(path, JobIdentity) for path in self._at.jobs.glob("*/job.json"))
        name = (gone.namespace, gone.name)
        left = [job for job in jobs if job is not None and (job.namespace, job.name) == name and job.uid != gone.uid]
        alias = self._at.name(*name)
        if left:
            replace_file(alias, json.encode(max(left, key=lambda job: job.created_at)), self._at.scratch)
        else:
            alias.unlink()
