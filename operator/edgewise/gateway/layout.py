"""Where everything is on the results volume. Owns the names of folders and files; touches none of them.

staging/<job UID>/<pod UID>/     one upload under way: plan.json, and two files a blob (partial.py)
jobs/<job UID>/job.json          whose results these are
jobs/<job UID>/blobs/<sha256>    verified content, once for all attempts of the job
jobs/<job UID>/attempts/<pod UID>.json    the manifest, written last: an attempt without one is not there
jobs/<job UID>/aside/<pod UID>.json       this attempt's files are not the job's results
jobs/<job UID>/published.json    the one attempt whose files are the job's results
jobs/<job UID>/early/<pod UID>.jsonl      files of a stream's run that came home before it ended, one a line
names/<namespace>/<job>.json     the newest job of that name
streams/<namespace>/<stream>/<job UID>.json   a run of a stream of that name
bundles/<namespace>/             apps' own files (bundle_store.py)
scratch/                         files that are not finished; emptied at every start
"""

from pathlib import Path


class Layout:
    """The paths below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / "staging"
        self.jobs = root / "jobs"
        self.names = root / "names"
        self.streams = root / "streams"
        self.bundles = root / "bundles"
        self.scratch = root / "scratch"
        self.lock = root / "lock"

    def upload(self, job_uid: str, pod_uid: str) -> Path:
        """The folder of an upload under way."""
        return self.staging / job_uid / pod_uid

    def plan(self, job_uid: str, pod_uid: str) -> Path:
        """What an upload under way will bring."""
        return self.upload(job_uid, pod_uid) / "plan.json"

    def job(self, job_uid: str) -> Path:
        """Whose results are in the job's folder."""
        return self.jobs / job_uid / "job.json"

    def blob(self, job_uid: str, sha256: str) -> Path:
        """Verified content."""
        return self.jobs / job_uid / "blobs" / sha256

    def manifest(self, job_uid: str, pod_uid: str) -> Path:
        """What an attempt brought home."""
        return self.jobs / job_uid / "attempts" / f"{pod_uid}.json"

    def aside(self, job_uid: str, pod_uid: str) -> Path:
        """The note that an attempt's files are not the job's results."""
        return self.jobs / job_uid / "aside" / f"{pod_uid}.json"

    def removed(self, job_uid: str, pod_uid: str) -> Path:
        """The note that an attempt's content was removed."""
        return self.jobs / job_uid / "removed" / f"{pod_uid}.json"

    def retention(self, job_uid: str) -> Path:
        """How long the job's content is kept."""
        return self.jobs / job_uid / "retention.json"

    def untidy(self, job_uid: str) -> Path:
        """The mark of a removal that has begun and not ended."""
        return self.jobs / job_uid / "untidy"

    def published(self, job_uid: str) -> Path:
        """The note of whose files are the job's results."""
        return self.jobs / job_uid / "published.json"

    def early(self, job_uid: str, pod_uid: str) -> Path:
        """What came home of an attempt of a stream's run before it ended."""
        return self.jobs / job_uid / "early" / f"{pod_uid}.jsonl"

    def run(self, namespace: str, stream: str, job_uid: str) -> Path:
        """The note that a job is a run of a stream."""
        return self.streams / namespace / stream / f"{job_uid}.json"

    def name(self, namespace: str, name: str) -> Path:
        """The newest job of that name."""
        return self.names / namespace / f"{name}.json"

    def bundle(self, namespace: str, sha256: str) -> Path:
        """An app's own files, as a tar."""
        return self.bundles / namespace / f"{sha256}.tar"
