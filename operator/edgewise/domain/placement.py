"""Which device takes which job: one pass over the queue, reservations visible to the next job.

Owns the order of the queue and the choice among eligible devices. It says why not for every device it passes over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from edgewise.domain.demand import Demand, Usage
from edgewise.domain.eligibility import Candidacy, Rejection, rejection
from edgewise.domain.policies import POLICIES, Ranking
from edgewise.domain.views import Installation, JobView, NodeView


@dataclass(frozen=True, slots=True)
class Candidate:
    """An eligible device with its rank, best first in a Decision."""

    node: str
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for one job: `node` is None when no device can take it, and then every device has a rejection."""

    policy: str
    node: str | None
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]

    @property
    def message(self) -> str:
        """Why there, or why nowhere, in one sentence."""
        if self.node is None:
            return "no device can take the job: " + (summary(self.rejected) or "no agent has reported yet")
        best = self.candidates[0].ranking
        notes = f" ({', '.join(best.notes)})" if best.notes else ""
        others = (
            f"; next {self.candidates[1].node} {self.candidates[1].ranking.score:.2f}" if self.candidates[1:] else ""
        )
        out = f"; out: {summary(self.rejected)}" if self.rejected else ""
        return f"{self.node} has the best score, {best.score:.2f}{notes}{others}{out}"


def queue_order(job: JobView) -> tuple[int, datetime, str]:
    """Higher priority first, then the older job, then by UID so that the order is total."""
    return -job.spec.priority, job.created_at, job.uid


def place(
    demand: Demand, nodes: Mapping[str, NodeView], usage: Mapping[str, Usage], installation: Installation
) -> Decision:
    """Choose the device for one job and count the job against it in `usage`.

    Devices that the job avoids, or on which it failed before, are taken only when no other is eligible. Raises
    KeyError for a policy that is not registered.
    """
    name = demand.spec.placement.policy or installation.default_policy
    rank = POLICIES[name]
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for node in nodes.values():
        one = Candidacy(node, demand, usage[node.name], installation)
        why_not = rejection(one)
        if why_not is None:
            ranking = rank(one)
            if ranking.score > 0:
                candidates.append(Candidate(node.name, ranking))
                continue
            notes = f" ({', '.join(ranking.notes)})" if ranking.notes else ""
            why_not = Rejection(node.name, "ZeroScore", f"its score is 0{notes}")
        rejected.append(why_not)
    avoided = demand.failed_on | set(demand.spec.placement.avoid)
    candidates.sort(key=lambda one: (one.node in avoided, -one.ranking.score, one.node))
    rejected.sort(key=lambda one: one.node)
    winner = candidates[0].node if candidates else None
    if winner:
        usage[winner].take(demand.requests, reflected=False)
    return Decision(name, winner, tuple(candidates), tuple(rejected))


def summary(rejected: Iterable[Rejection], most: int = 5) -> str:
    """The rejections as one line, cut after `most` devices."""
    all_of_them = list(rejected)
    shown = [f"{one.node} {one.reason} ({one.message})" for one in all_of_them[:most]]
    more = len(all_of_them) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
