"""One set's next state in the making: what the steps of sets.py write to, and how it becomes a status.

Owns how a set's status counts its runs. It decides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from edgewise.api import EdgeJobStatus, Phase, Results, ResultsState, Runs
from edgewise.api.job_status import DEVICES_KEPT
from edgewise.domain.actions import Action
from edgewise.domain.conditions import updated
from edgewise.domain.draft import End, claims
from edgewise.domain.members import Member, written
from edgewise.domain.views import AppView, Installation, JobView, Key, NodeView, Refusal

UNDER_WAY: Final = frozenset({Phase.BOUND, Phase.RUNNING, Phase.COLLECTING})
"""The phases of a run that is on a device."""


@dataclass(slots=True)
class SetDraft:
    """A set, its runs, and what is decided of it so far in this pass."""

    job: JobView
    app: AppView | None
    runs: Sequence[Member]
    """in the order of their places"""
    jobs: Mapping[Key, JobView]
    nodes: Mapping[str, NodeView]
    refusal: Refusal | None
    installation: Installation
    now: datetime
    total: int | None = None
    """how many runs there will be; None until the devices are found"""
    unfinished: list[Member] = field(default_factory=list)
    succeeded: list[Member] = field(default_factory=list)
    failed: list[Member] = field(default_factory=list)
    """those that have ended otherwise"""
    remembered: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    """indexes that had ended well, and otherwise, whose EdgeJobs are gone"""
    lost: int = 0
    """how many runs for a device are gone"""
    start_time: datetime | None = None
    ending: End | None = None
    """how it ends once no run goes on"""
    end: End | None = None
    suspended: bool = False
    stalled: tuple[str, str] | None = None
    waiting: str = ""
    actions: list[Action] = field(default_factory=list)
    wake_ups: list[datetime] = field(default_factory=list)

    @property
    def successes(self) -> int:
        """How many runs have ended well."""
        return len(self.succeeded) + len(self.remembered[0])

    @property
    def failures(self) -> int:
        """How many runs have ended otherwise."""
        return len(self.failed) + len(self.remembered[1]) + self.lost

    @property
    def what(self) -> str:
        """What its runs differ by."""
        return "indexes" if self.job.spec.placement.every_device is None else "devices"

    def status(self) -> EdgeJobStatus:
        """The draft as a whole new status."""
        old, end = self.job.status, self.end
        if end:
            phase = end.phase
        elif self.suspended:
            phase = Phase.SUSPENDED
        else:
            phase = Phase.RUNNING if self.start_time else Phase.PENDING
        suspended = ("Suspended", "") if self.suspended else None
        told = claims(end, suspended, self.stalled, phase, self.waiting)
        return old.model_copy(
            update={
                "observed_generation": self.job.generation,
                "phase": phase,
                "conditions": updated(old.conditions, told, self.job.generation, self.now),
                "start_time": self.start_time,
                "completion_time": (old.completion_time or self.now) if end else None,
                "results": self._results(),
                "runs": self._counts(),
            }
        )

    def _counts(self) -> Runs:
        active = sum(one.job.status.phase in UNDER_WAY for one in self.unfinished)
        total = self.total if self.total is not None else len(self.runs)
        indexes = [[one.index for one in group if one.index is not None] for group in (self.succeeded, self.failed)]
        old = self.job.status.runs
        return Runs(
            total=self.total,
            progress=f"{self.successes}/{total}",
            active=active,
            queued=max(0, total - active - self.successes - self.failures),
            succeeded=self.successes,
            failed=self.failures,
            succeeded_indexes=written([*indexes[0], *self.remembered[0]]),
            failed_indexes=written([*indexes[1], *self.remembered[1]]),
            failed_devices=tuple(one.device for one in self.failed if one.device)[:DEVICES_KEPT],
            counted_at=old.counted_at if old else None,
        )

    def _results(self) -> Results | None:
        """The totals of what the runs have brought home."""
        found = [one.job.status.results for one in self.succeeded]
        home = [results for results in found if results is not None]
        if not home:
            return self.job.status.results
        state = ResultsState.PENDING
        if self.end:
            whole = not self.failures and all(one.state is ResultsState.COMPLETE for one in home)
            state = ResultsState.COMPLETE if whole else ResultsState.PARTIAL
        size = sum(one.bytes_ for one in home)
        return Results(
            state=state,
            file_count=sum(one.file_count for one in home),
            bytes_=size,
            sent_bytes=size,
            skipped=sum(one.skipped for one in home),
            refused_count=sum(one.refused_count for one in home),
            url=f"{self.installation.gateway_url}/v1/namespaces/{self.job.key.namespace}/jobs/{self.job.key.name}/files",
            completed_at=max((one.completed_at for one in home if one.completed_at), default=None),
        )
