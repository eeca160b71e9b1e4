"""Which device takes which job: one job of the queue at a time, reservations visible to the next.

Owns the order of the queue and the choice among eligible devices. It says why not for every device it passes over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from edgewise.domain.board import Board, Candidate
from edgewise.domain.demand import Demand
from edgewise.domain.eligibility import Rejection
from edgewise.domain.policies import Ranking
from edgewise.domain.views import JobView


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for one job: `node` is None when it has to wait, and `message` says for what.

    `candidates` are the best devices first, `rejected` the others by name; both are cut to what a status holds.
    """

    policy: str
    node: str | None
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    rejected_count: int

    @property
    def message(self) -> str:
        """Why there, or why nowhere, in one sentence."""
        out = summary(self.rejected, self.rejected_count)
        if self.node is None:
            return self._waiting(out)
        best = self.candidates[0]
        notes = f" ({', '.join(best.ranking.notes)})" if best.ranking.notes else ""
        has = _which_decides(best, self.candidates[1:])
        if best.ranking.expected_seconds is None:
            leads = f"{has} and scores nearly best" if has else "has the best score"
            why = f"{self.node} {leads}, {best.ranking.score:.2f} = {_product(best.ranking)}{notes}"
        else:
            leads = f"{has} and would be done nearly first" if has else "would be done first"
            why = f"{self.node} {leads}, in {_figure(best)}{notes}"
        avoided = f"; although avoided: {best.avoided}" if best.avoided else ""
        others = f"; next {self.candidates[1].node} {_figure(self.candidates[1])}" if self.candidates[1:] else ""
        return f"{why}{avoided}{others}{f'; out: {out}' if out else ''}"

    def _waiting(self, out: str) -> str:
        if not self.candidates:
            return f"no device can take the job: {out or 'no agent has reported yet'}"
        best = self.candidates[0]
        free = next((one for one in self.candidates if not one.busy), None)
        other = f"; {free.node}, which is free, would take {_figure(free)}" if free else ""
        return f"waits for {best.node}, where it would be done in {_figure(best)} with the work there{other}"


def queue_order(job: JobView) -> tuple[int, datetime, str, int, str]:
    """Higher priority first, then the older job, then by index, or by UID so that the order is total."""
    return -job.spec.priority, job.created_at, job.set_uid or job.uid, job.spec.index or 0, job.uid


def place(demand: Demand, board: Board, most: int = 20) -> Decision:
    """Choose the device for one job, and count the job against it on the board; a decision shows `most` devices.

    Devices that are avoided are taken only when no other is eligible. Raises KeyError for a policy that is not
    registered.
    """
    standing = board.standing(demand)
    rejected, count = tuple(standing.rejected[:most]), len(standing.rejected)
    best = standing.best
    if best is None:
        return Decision(board.policy(demand), None, (), rejected, count)
    others = (one for one in standing.candidates if one is not best)
    candidates = tuple(islice(chain([best], others), most))
    board.take(demand, best)
    return Decision(board.policy(demand), None if best.busy else best.node, candidates, rejected, count)


def _which_decides(best: Candidate, others: Sequence[Candidate]) -> str:
    """What decided for the best device although another's figure is a little better; nothing where none is."""
    better = next((one for one in others if not one.avoided and one.ranking.figure < best.ranking.figure), None)
    lead = [what for what in better.ranking.lacks if what not in best.ranking.lacks] if better else []
    return f"has the {' and the '.join(lead)} already" if lead else ""


def _product(ranking: Ranking) -> str:
    factors = ranking.factors
    return f"load {factors.load:.2f} × performance {factors.performance:.2f} × thermal {factors.thermal:.2f}"


def _figure(one: Candidate) -> str:
    """A candidate's figure, as its policy compares."""
    score = f"{one.ranking.score:.2f}"
    return score if one.ranking.expected_seconds is None else f"{one.ranking.expected_seconds:.0f} s (score {score})"


def summary(rejected: Sequence[Rejection], count: int, most: int = 5) -> str:
    """`count` rejections as one line, of which `most` are shown."""
    shown = [f"{one.node} {one.reason} ({one.message})" for one in rejected[:most]]
    more = count - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
