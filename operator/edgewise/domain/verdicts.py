"""What becomes of results that the gateway holds: the job's, another attempt's loss, or nobody's."""

from edgewise_agent import wire

from edgewise.api import ResultsState
from edgewise.domain.conditions import holds
from edgewise.domain.views import JobView


def verdict(manifest: wire.Manifest, job: JobView | None) -> wire.Verdict:
    """The verdict, from what is written in the job's status alone: so it holds after a crash.

    `job` is the one of the manifest's name, None when there is none. Anything undecided is Pending. Logs alone are
    nobody's results, whatever becomes of the job. A stream's run has one attempt, and its files are the stream's,
    however it ended.
    """
    if job is None or job.uid != manifest.job_uid:
        return wire.Verdict.GONE
    if manifest.logs_only:
        return wire.Verdict.SUPERSEDED
    results = job.status.results
    if results is not None and results.state in (ResultsState.COMPLETE, ResultsState.PARTIAL):
        return wire.Verdict.PUBLISHED if results.pod_uid == manifest.pod_uid else wire.Verdict.SUPERSEDED
    if not holds(job.status.conditions, "Finished"):
        return wire.Verdict.PENDING
    return wire.Verdict.PUBLISHED if job.stream_uid else wire.Verdict.SUPERSEDED
