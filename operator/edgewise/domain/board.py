"""What one pass over the queue places on: the devices, what is taken of them so far, and how they rank for each demand.

Owns the bookkeeping that makes a long queue cheap. Jobs of the same app and the same wishes see the same ranking, and
placing one changes it for a single device. So each distinct demand ranks the whole fleet once in a pass; after that,
only devices that were taken since are looked at again.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from edgewise.domain.demand import Demand, Usage
from edgewise.domain.eligibility import Candidacy, Rejection, is_busy, unfit, unready
from edgewise.domain.forecast import Outlook
from edgewise.domain.policies import POLICIES, Policy, Ranking
from edgewise.domain.views import NodeView, Snapshot

Order = tuple[bool, float, bool, tuple[float, ...], str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that could take the job, with its rank."""

    node: str
    ranking: Ranking
    avoided: str = ""
    """why it comes after all others, however good it is; empty: it does not"""
    busy: bool = False
    """whether it can take the job only when others there are done"""
    siblings: int = 0
    """how many runs of the job's set are there: of equal devices, the one with fewest is best"""
    order: Order = field(init=False)
    """the lowest wins"""

    def __post_init__(self) -> None:
        first, *others = self.ranking.order
        object.__setattr__(self, "order", (bool(self.avoided), first, self.busy, (self.siblings, *others), self.node))


_order = attrgetter("order")


@dataclass(slots=True)
class Standing:
    """How the devices rank for one demand: `candidates` best first, `rejected` by name."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    seen: int = 0
    """how many of the board's takings are in it"""
    _orders: dict[str, Order] = field(default_factory=dict)

    def put(self, node: str, candidate: Candidate | None, why_not: Rejection | None) -> None:
        """Replace what is known of one device. A busy device is both a candidate and rejected."""
        old = self._orders.pop(node, None)
        if old is not None:
            del self.candidates[bisect_left(self.candidates, old, key=_order)]
        if candidate is not None:
            insort(self.candidates, candidate, key=_order)
            self._orders[node] = candidate.order
        at = bisect_left(self.rejected, node, key=lambda one: one.node)
        if at < len(self.rejected) and self.rejected[at].node == node:
            del self.rejected[at]
        if why_not is not None:
            self.rejected.insert(at, why_not)

    @property
    def best(self) -> Candidate | None:
        """The candidate that the job is for, if there is any.

        An avoided device comes last among those that can take the job now; waiting for another is no better than it
        where the job would be done there later.
        """
        if not self.candidates or not self.candidates[0].busy:
            return self.candidates[0] if self.candidates else None
        free = next((one for one in self.candidates if not one.busy), None)
        sooner = (
            free is not None and bool(free.avoided) and free.ranking.order[0] <= self.candidates[0].ranking.order[0]
        )
        return free if sooner else self.candidates[0]


class Board:
    """The devices of a snapshot during one pass."""

    def __init__(self, snapshot: Snapshot, usage: Mapping[str, Usage], now: datetime) -> None:
        self.installation = snapshot.installation
        self._nodes = snapshot.nodes
        self._usage = usage
        self._now = now
        self._outlook = Outlook(snapshot, now)
        self._unready = {name: unready(node, snapshot.installation) for name, node in snapshot.nodes.items()}
        self._standings: dict[object, Standing] = {}
        self._taken: list[str] = []

    def standing(self, demand: Demand) -> Standing:
        """How the devices rank for the demand now. Raises KeyError for a policy that is not registered."""
        standing = self._standings.get(demand.kind)
        if standing is None:
            standing = self._standings[demand.kind] = Standing(seen=len(self._taken))
            changed = self._asked_for(demand)
        elif standing.candidates and all(one.busy for one in standing.candidates):
            return standing  # no slot gets free within a pass, so the job can only wait; for which device is no matter
        else:
            changed = self._asked_for(demand) & set(self._taken[standing.seen :])
            standing.seen = len(self._taken)
        policy = POLICIES[self.policy(demand)]
        for name in sorted(changed):
            self._look(standing, self._nodes[name], demand, policy)
        return standing

    def _asked_for(self, demand: Demand) -> Set[str]:
        """The devices that the demand is about: all, or the one that it names."""
        name = demand.spec.placement.node_name
        return self._nodes.keys() & {name} if name else self._nodes.keys()

    def policy(self, demand: Demand) -> str:
        """The name of the policy that the job, or the installation, asks for."""
        return demand.spec.placement.policy or self.installation.default_policy

    def take(self, demand: Demand, candidate: Candidate) -> None:
        """Count the job against the device; against its slots too, unless it only waits for it."""
        self._outlook.take(demand.app_key, candidate.node)
        if not candidate.busy:
            self._usage[candidate.node].take(demand.requests, reflected=False, set_uid=demand.set_uid)
        self._taken.append(candidate.node)

    def _look(self, standing: Standing, node: NodeView, demand: Demand, policy: Policy) -> None:
        """Rank one device for one demand."""
        unready_because = self._unready[node.name]
        if unready_because is not None:
            standing.put(node.name, None, Rejection(node.name, *unready_because))
            return
        one = Candidacy(node, demand, self._usage[node.name], self.installation)
        why_not, candidate = unfit(one), None
        busy = why_not is not None and policy.waits and is_busy(one, why_not)
        if why_not is None or busy:
            ranking = policy.rank(one, self._outlook, busy)
            if ranking.takes:
                siblings = one.usage.siblings[demand.set_uid]
                candidate = Candidate(node.name, ranking, self._avoided(node, demand), busy, siblings)
            elif why_not is None:
                notes = f" ({', '.join(ranking.notes)})" if ranking.notes else ""
                why_not = Rejection(node.name, "ZeroScore", f"its score is 0{notes}")
        standing.put(node.name, candidate, why_not)

    def _avoided(self, node: NodeView, demand: Demand) -> str:
        """Why a device is the last choice, or nothing."""
        if node.name in demand.failed_on:
            return "the job failed there before"
        if node.name in demand.spec.placement.avoid:
            return "spec.placement.avoid names it"
        until = node.status.avoided_until
        if until is not None and self._now < until:
            return f"it was lost {node.status.losses} times of late, and is watched until {until:%H:%M:%S} UTC"
        return ""
