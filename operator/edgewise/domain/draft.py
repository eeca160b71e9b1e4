"""One job's next state in the making: what the lifecycle's steps write to, and how it becomes a status.

Owns the shape of EdgeJob.status and its conditions. It decides nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from edgewise_agent import wire

from edgewise.api import Attempt, EdgeJobStatus, Phase, PlacementStatus, Results
from edgewise.api.job_status import ATTEMPTS_KEPT
from edgewise.domain.actions import Action, CreatePod, DeletePod, PatchStatus
from edgewise.domain.attempts import UNDER_WAY, disruptions, failures
from edgewise.domain.conditions import Claim, updated
from edgewise.domain.demand import Demand
from edgewise.domain.massloss import MassLoss
from edgewise.domain.views import AppView, Installation, JobView, NodeView, PodView, Refusal

NOT_ITS_TURN: Final = "NotItsTurn"
"""Why a run of a set that could start is suspended."""


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended: as `Complete` or `Failed`, with a reason for programs and a sentence for people."""

    condition: Literal["Complete", "Failed"]
    phase: Phase
    reason: str
    message: str


@dataclass(slots=True)
class Draft:
    """A job, everything known of it, and what is decided of it so far in this pass."""

    job: JobView
    app: AppView | None
    pods: dict[str, PodView]
    """the job's pods by UID"""
    nodes: Mapping[str, NodeView]
    manifests: Mapping[str, wire.Manifest]
    installation: Installation
    now: datetime
    mass_loss: MassLoss | None
    newcomers: Collection[str]
    """devices that report and have no EdgeNode, or none yet"""

    held: str
    """why it may not start yet, although its own spec lets it; empty: it may"""

    refusal: Refusal | None
    attempts: list[Attempt]
    placement: PlacementStatus | None
    results: Results | None
    start_time: datetime | None
    phase: Phase = Phase.PENDING
    waiting: str = ""
    """what the job waits for, in words"""
    next_attempt_at: datetime | None = None
    stalled: tuple[str, str] | None = None
    suspended: bool = False
    end: End | None = None
    demand: Demand | None = None
    """set when the job should be placed in this pass"""
    actions: list[Action] = field(default_factory=list)
    wake_at: datetime | None = None
    held_until: datetime | None = None
    """until when the state is too short-lived to be written, if nothing more happens"""

    def wake(self, at: datetime) -> None:
        """Ask for another look at this job at `at`, or earlier."""
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    def wake_in(self, delay: timedelta) -> None:
        """Ask for another look after `delay`."""
        self.wake(self.now + delay)

    def pod_of(self, attempt: Attempt) -> PodView | None:
        """The attempt's pod, if it is still there."""
        return self.pods.get(attempt.pod_uid)

    def delete(self, pod: PodView, *, only_unchanged: bool = False) -> None:
        """Delete a pod, unless it is being deleted already; `only_unchanged`: not if it was bound meanwhile."""
        if not pod.deleting:
            version = pod.resource_version if only_unchanged else None
            self.actions.append(DeletePod(pod.key, pod.uid, version))

    def is_written(self) -> bool:
        """Whether the API holds every attempt with its outcome, so that a crash or a lost write forgets none."""
        written = {one.pod_uid: one.outcome for one in self.job.status.attempts}
        return all(written.get(one.pod_uid) is one.outcome for one in self.attempts)

    def is_awaited(self) -> bool:
        """Whether somebody waits for this state to be written, so that it is more than progress.

        No pod is deleted, and none follows it, before the end of its attempt is written; the gateway waits for what
        becomes of results, and people for the end of the job.
        """
        written = {one.pod_uid: (one.outcome, one.reason) for one in self.job.status.attempts}
        ended = any(
            written.get(one.pod_uid) != (one.outcome, one.reason)
            for one in self.attempts
            if one.reason == "Unschedulable" or one.outcome not in UNDER_WAY
        )
        return ended or self.end is not None or self.results != self.job.status.results

    def is_passing(self) -> bool:
        """Whether the next state is so near that this one is not worth a write of its own.

        The answer to the creation of a pod brings the next one at once, and it tells all of this one.
        """
        held = self.held_until is not None and self.now < self.held_until
        return held or any(isinstance(action, CreatePod) for action in self.actions)

    def change(self, attempt: Attempt, **values: object) -> Attempt:
        """Replace an attempt by one with other values, and return that."""
        changed = attempt.model_copy(update=values)
        self.attempts[self.attempts.index(attempt)] = changed
        return changed

    def status(self) -> EdgeJobStatus:
        """The draft as a whole new status; condition times change only with their status."""
        old = self.job.status
        shown = self.attempts[-ATTEMPTS_KEPT:]
        return old.model_copy(
            update={
                "observed_generation": self.job.generation,
                "phase": self.end.phase if self.end else self.phase,
                "conditions": updated(old.conditions, self._claims(), self.job.generation, self.now),
                "start_time": self.start_time,
                "completion_time": (old.completion_time or self.now) if self.end else None,
                "node": shown[-1].node if shown else "",
                "attempts": tuple(shown),
                "failures": max(0, old.failures - failures(old.attempts)) + failures(self.attempts),
                "disruptions": max(0, old.disruptions - disruptions(old.attempts)) + disruptions(self.attempts),
                "next_attempt_at": self.next_attempt_at,
                "placement": self.placement,
                "results": self.results,
            }
        )

    def _claims(self) -> list[Claim]:
        why = ("Suspended", "") if self.job.spec.suspend else (NOT_ITS_TURN, self.held)
        return claims(self.end, why if self.suspended else None, self.stalled, self.phase, self.waiting)


def claims(
    end: End | None, suspended: tuple[str, str] | None, stalled: tuple[str, str] | None, phase: Phase, waiting: str
) -> list[Claim]:
    """The conditions of an EdgeJob in this state; `suspended` and `stalled` are reason and message where they hold."""
    idle = end is not None or suspended is not None
    return [
        _ending("Complete", end),
        _ending("Failed", end),
        Claim("Finished", end is not None, end.reason if end else "NotYet", end.message if end else ""),
        Claim("Suspended", suspended is not None, *(suspended or ("Active", ""))),
        Claim("Stalled", stalled is not None, *(stalled or ("Fine", ""))),
        Claim("Reconciling", not idle and stalled is None, "Settled" if idle else phase, "" if idle else waiting),
    ]


def _ending(name: str, end: End | None) -> Claim:
    if end is None:
        return Claim(name, False, "NotYet", "")
    return Claim(name, end.condition == name, end.reason, end.message if end.condition == name else "")


def acknowledge(job: JobView) -> list[Action]:
    """A finished job whose spec was edited says that this was seen; nothing else comes of it."""
    status, generation = job.status, job.generation
    if status.observed_generation == generation:
        return []
    conditions = tuple(one.model_copy(update={"observed_generation": generation}) for one in status.conditions)
    new = status.model_copy(update={"observed_generation": generation, "conditions": conditions})
    return [PatchStatus("edgejobs", job.key, job.resource_version, status, new)]
