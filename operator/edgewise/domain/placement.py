"""Which device takes which job: one pass over the queue, reservations visible to the next job.

Owns the order of the queue and the choice among eligible devices. It says why not for every device it passes over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from edgewise.domain.demand import Demand, Usage
from edgewise.domain.eligibility import Candidacy, Rejection, is_busy, rejection
from edgewise.domain.forecast import Outlook
from edgewise.domain.policies import POLICIES, Ranking
from edgewise.domain.views import JobView, NodeView, Snapshot


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that could take the job, with its rank; best first in a Decision."""

    node: str
    ranking: Ranking
    avoided: str = ""
    """why it comes after all others, however good it is; empty: it does not"""
    busy: bool = False
    """whether it can take the job only when others there are done"""

    @property
    def order(self) -> tuple[bool, tuple[float, ...], bool, str]:
        """The lowest wins."""
        return bool(self.avoided), self.ranking.order, self.busy, self.node


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for one job: `node` is None when it has to wait, and `message` says for what."""

    policy: str
    node: str | None
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]

    @property
    def message(self) -> str:
        """Why there, or why nowhere, in one sentence."""
        if self.node is None:
            return self._waiting()
        best = self.candidates[0]
        notes = f" ({', '.join(best.ranking.notes)})" if best.ranking.notes else ""
        why = (
            f"{self.node} has the best score, {best.ranking.score:.2f} = {_product(best.ranking)}{notes}"
            if best.ranking.expected_seconds is None
            else f"{self.node} would be done first, in {_shown(best.ranking)}{notes}"
        )
        avoided = f"; although avoided: {best.avoided}" if best.avoided else ""
        others = f"; next {self.candidates[1].node} {_figure(self.candidates[1])}" if self.candidates[1:] else ""
        out = f"; out: {summary(self.rejected)}" if self.rejected else ""
        return f"{why}{avoided}{others}{out}"

    def _waiting(self) -> str:
        if not self.candidates:
            return "no device can take the job: " + (summary(self.rejected) or "no agent has reported yet")
        best = self.candidates[0]
        free = next((one for one in self.candidates if not one.busy), None)
        other = f"; {free.node}, which is free, would take {_figure(free)}" if free else ""
        return f"waits for {best.node}, where it would be done in {_shown(best.ranking)} with the work there{other}"


@dataclass(frozen=True, slots=True)
class Board:
    """What one pass over the queue places on: the snapshot's devices, and what is taken of them so far."""

    snapshot: Snapshot
    usage: dict[str, Usage]
    now: datetime
    outlook: Outlook

    @classmethod
    def of(cls, snapshot: Snapshot, usage: dict[str, Usage], now: datetime) -> "Board":
        """The board before anything is placed."""
        return cls(snapshot, usage, now, Outlook(snapshot, now))


def queue_order(job: JobView) -> tuple[int, datetime, str]:
    """Higher priority first, then the older job, then by UID so that the order is total."""
    return -job.spec.priority, job.created_at, job.uid


def place(demand: Demand, board: Board) -> Decision:
    """Choose the device for one job and count the job against it on the board.

    Devices that are avoided are taken only when no other is eligible. Raises KeyError for a policy that is not
    registered.
    """
    installation = board.snapshot.installation
    name = demand.spec.placement.policy or installation.default_policy
    policy = POLICIES[name]
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for node in board.snapshot.nodes.values():
        one = Candidacy(node, demand, board.usage[node.name], installation)
        why_not = rejection(one)
        busy = why_not is not None and policy.waits and is_busy(one)
        if why_not is None or busy:
            ranking = policy.rank(one, board.outlook, busy)
            if ranking.takes:
                candidates.append(Candidate(node.name, ranking, _avoided(node, demand, board.now), busy))
            elif why_not is None:
                notes = f" ({', '.join(ranking.notes)})" if ranking.notes else ""
                why_not = Rejection(node.name, "ZeroScore", f"its score is 0{notes}")
        if why_not is not None:
            rejected.append(why_not)
    candidates.sort(key=lambda one: one.order)
    rejected.sort(key=lambda one: one.node)
    best = candidates[0] if candidates else None
    if best is not None:
        board.outlook.take(demand.app_key, best.node)
        if not best.busy:
            board.usage[best.node].take(demand.requests, reflected=False)
    winner = best.node if best is not None and not best.busy else None
    return Decision(name, winner, tuple(candidates), tuple(rejected))


def _avoided(node: NodeView, demand: Demand, now: datetime) -> str:
    """Why a device is the last choice, or nothing."""
    if node.name in demand.failed_on:
        return "the job failed there before"
    if node.name in demand.spec.placement.avoid:
        return "spec.placement.avoid names it"
    until = node.status.avoided_until
    if until is not None and now < until:
        return f"it was lost {node.status.losses} times of late, and is watched until {until:%H:%M:%S} UTC"
    return ""


def _product(ranking: Ranking) -> str:
    factors = ranking.factors
    return f"load {factors.load:.2f} × performance {factors.performance:.2f} × thermal {factors.thermal:.2f}"


def _figure(one: Candidate) -> str:
    return f"{one.ranking.score:.2f}" if one.ranking.expected_seconds is None else _shown(one.ranking)


def _shown(ranking: Ranking) -> str:
    return f"{ranking.expected_seconds or 0:.0f} s (score {ranking.score:.2f})"


def summary(rejected: Iterable[Rejection], most: int = 5) -> str:
    """The rejections as one line, cut after `most` devices."""
    all_of_them = list(rejected)
    shown = [f"{one.node} {one.reason} ({one.message})" for one in all_of_them[:most]]
    more = len(all_of_them) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
