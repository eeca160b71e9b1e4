"""The runs of an EdgeStream: their names, what makes an EdgeJob one of them, their manifests, and how each has ended.

Owns nothing of when one starts. A run's name is made from its number, so it is the same after a crash, and the API
server refuses the second of two.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from edgewise.api import API_VERSION, GROUP, Attempt, EdgeJobSpec, Outcome, Phase, Retention, spec_body
from edgewise.api.edge_job import CHANGEABLE, Forever
from edgewise.api.edge_stream import RUN_DIGITS
from edgewise.domain.attempts import UNDER_WAY
from edgewise.domain.conditions import named
from edgewise.domain.views import JobView, Key, StreamView

STREAM_LABEL: Final = f"{GROUP}/stream"

FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(minutes=5)
STEADY: Final = timedelta(minutes=10)
"""A run that has lasted for so long makes up for the quick ends before it."""

MOVED: Final = frozenset({"NodeLost", "Hot", "Evicted", "Deleted"})
"""The reasons for which a run ends because of its device, as when that is lost, too hot or drained."""


@dataclass(frozen=True, slots=True)
class StreamRun:
    """An EdgeJob that is a run of an EdgeStream."""

    job: JobView
    number: int

    @property
    def name(self) -> str:
        """The name of its EdgeJob."""
        return self.job.key.name

    @property
    def attempt(self) -> Attempt | None:
        """Its one attempt, once it has had a device."""
        attempts = self.job.status.attempts
        return attempts[-1] if attempts else None

    @property
    def ended_at(self) -> datetime | None:
        """When its app ended, whether its files are home or not; None while it may go on."""
        attempt = self.attempt
        if attempt is not None and attempt.finished_at is not None and attempt.outcome not in UNDER_WAY:
            return attempt.finished_at
        return self.job.status.completion_time if self.job.finished else None

    @property
    def cancelled(self) -> bool:
        """Whether somebody, or its stream, has ended it."""
        return self.job.status.phase is Phase.CANCELLED

    @property
    def end(self) -> str:
        """How it ended, as a sentence."""
        attempt = self.attempt
        if attempt is not None and attempt.outcome is Outcome.SUCCEEDED:
            return f"the app exited with 0 on {attempt.node}"
        if self.cancelled:
            return "it was cancelled"
        finished = named(self.job.status.conditions, "Finished")
        return (attempt.message if attempt else "") or (finished.message if finished else "") or "it has ended"


def run_of(stream: StreamView, job: JobView) -> StreamRun | None:
    """The job as a run of `stream`; None unless that controls it and can have given it its name."""
    if job.stream_uid != stream.uid or job.key.namespace != stream.key.namespace:
        return None
    prefix, _, rest = job.key.name.partition(f"{stream.key.name}-")
    number = rest.isascii() and rest.isdigit() and not rest.startswith("0") and len(rest) <= RUN_DIGITS
    return StreamRun(job, int(rest)) if number and not prefix else None


def run_key(stream: StreamView, number: int) -> Key:
    """The name of the run of that number: `<stream>-<number>`."""
    return Key(stream.key.namespace, f"{stream.key.name}-{number}")


def is_outdated(stream: StreamView, run: StreamRun) -> bool:
    """Whether the run was made from another template than the stream has now, as far as a job's spec can't change."""
    wanted, has = stream.run_spec, run.job.spec
    fixed = (name for name in EdgeJobSpec.model_fields if name not in CHANGEABLE)
    return any(getattr(has, name) != getattr(wanted, name) for name in fixed)


def steering(stream: StreamView, run: StreamRun, *, cancel: bool) -> dict[str, Any]:
    """The fields of a run's spec that must become as the stream has them, as JSON. Of a finished run: retention."""
    wanted, now = stream.run_spec, run.job.spec
    change: dict[str, Any] = {}
    if now.retention != wanted.retention:
        change["retention"] = _retention(wanted.retention)
    if run.job.finished:
        return change
    if now.priority != wanted.priority:
        change["priority"] = wanted.priority
    if cancel and not now.cancel:
        change["cancel"] = True
    return change


def _retention(retention: Retention) -> dict[str, Any]:
    """Both times in words: null in a merge patch would bring the default back."""
    return {"pods": retention.pods or Forever, "results": retention.results or Forever}


def pause_after(run: StreamRun, quick_ends: int) -> tuple[timedelta, int]:
    """How long to wait from the end of a run to the next one, and how many quick ends there have been in a row then.

    `quick_ends` are those before this run. After an exit 10 seconds, twice as long after each further one, up to 5
    minutes; none after a run that lost its device, once the app had started there. 10 minutes of work count anew.
    """
    if _lasted(run) >= STEADY:
        quick_ends = 0
    if run.cancelled:
        return timedelta(), quick_ends
    attempt = run.attempt
    moved = attempt is not None and attempt.reason in MOVED
    if moved and attempt is not None and attempt.started_at is not None:
        return timedelta(), quick_ends
    if moved and quick_ends == 0:
        return timedelta(), 1
    return min(FIRST_PAUSE * 2 ** min(quick_ends, 10), LONGEST_PAUSE), quick_ends + 1


def _lasted(run: StreamRun) -> timedelta:
    """How long its app ran."""
    attempt = run.attempt
    if attempt is None or attempt.started_at is None or attempt.finished_at is None:
        return timedelta()
    return attempt.finished_at - attempt.started_at


def build_stream_run(stream: StreamView, number: int) -> dict[str, Any]:
    """The EdgeJob of the run of that number."""
    key, template = run_key(stream, number), stream.spec.job_template.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": "EdgeJob",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {**template.labels, STREAM_LABEL: stream.key.name},
            "annotations": dict(template.annotations),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "EdgeStream",
                    "name": stream.key.name,
                    "uid": stream.uid,
                    "controller": True,
                }
            ],
        },
        "spec": spec_body(stream.run_spec),
    }
