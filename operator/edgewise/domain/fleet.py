"""What the EdgeNodes and EdgeApps say of themselves: their status, written on a meaningful change only.

A device's status is written when its readiness changes, its spool fills or empties, or its spec changes; otherwise at
most once a minute, and only when its score has moved by over 10 % or its work has changed. Beats themselves are never
written.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from edgewise.api import ConditionStatus, EdgeNodeStatus, Factors, NodeBenchmark, NodeMetrics, NodeSpool
from edgewise.domain import unsupported
from edgewise.domain.actions import Action, CreateNode, Fault, PatchStatus, guarded
from edgewise.domain.conditions import Claim, holds, named, updated
from edgewise.domain.demand import Usage
from edgewise.domain.eligibility import Why, spool_full, unready
from edgewise.domain.liveness import (
    DEAD_INTERVALS,
    KUBELET_DOWN,
    LOST_REASONS,
    STALE_INTERVALS,
    Liveness,
    kubelet_down,
    liveness,
    silence,
)
from edgewise.domain.massloss import RECOVERED, UNDECIDED_INTERVALS, MassLoss
from edgewise.domain.policies import device_score
from edgewise.domain.views import AppView, Installation, Key, NodeView, Snapshot

A_MOMENT: Final = timedelta(seconds=1)
"""Times are cut to whole seconds, so look a little later."""

FIRST_AVOIDED: Final = timedelta(seconds=30)
LONGEST_AVOIDED: Final = timedelta(minutes=30)
MOST_LOSSES: Final = 1000
SHORTEST_MEMORY: Final = timedelta(minutes=10)
MEMORY: Final = 2
"""A loss is forgotten when the device, no longer avoided, has kept up for so many times as long as it was avoided."""

QUIET: Final = timedelta(minutes=1)
MEANINGFUL: Final = 0.10


def report(
    snapshot: Snapshot, usage: dict[str, Usage], losses: MassLoss | None, now: datetime, faults: list[Fault]
) -> list[Action]:
    """The EdgeNodes to make, and the statuses to write."""
    patches: list[PatchStatus | None] = [
        *(
            guarded(faults, f"EdgeNode {node.name}", node_patch, node, usage[node.name], snapshot, losses, now)
            for node in snapshot.nodes.values()
        ),
        *(guarded(faults, f"EdgeApp {app.key}", app_patch, app, now) for app in snapshot.apps.values()),
    ]
    newcomers = [CreateNode(name, node.uid) for name, node in snapshot.newcomers.items()]
    return [*newcomers, *(patch for patch in patches if patch)]


def wake_ups(snapshot: Snapshot, now: datetime) -> Iterable[datetime]:
    """Silence makes no event, so look again when the next device would be stale or dead."""
    least: timedelta | None = None
    for node in snapshot.nodes.values():
        if node.kubelet_lost_for and not kubelet_down(node):
            left = KUBELET_DOWN - node.kubelet_lost_for
            least = left if least is None else min(least, left)
        silent = silence(node)
        for patience in _patience(node.beat.interval if node.beat else snapshot.installation.beat_interval):
            if silent < patience:  # the first of them that is still to come
                least = patience - silent if least is None else min(least, patience - silent)
                break
    return [] if least is None else [now + least + A_MOMENT]


@lru_cache(maxsize=64)
def _patience(interval: timedelta) -> tuple[timedelta, ...]:
    """After which silences a device is looked at again, shortest first."""
    return tuple(interval * factor for factor in (STALE_INTERVALS, DEAD_INTERVALS, UNDECIDED_INTERVALS))


def node_patch(
    node: NodeView, usage: Usage, snapshot: Snapshot, losses: MassLoss | None, now: datetime
) -> PatchStatus | None:
    """The write of a device's status, if it has changed."""
    new = node_status(node, usage, snapshot, losses, now)
    if new == node.status:
        return None
    key = Key("", node.name)
    # jobs are kept back, and devices avoided, by what is written here
    awaited = any(reason_of(node.status, name) != reason_of(new, name) for name in ("Ready", "EvictionsPaused"))
    return PatchStatus("edgenodes", key, node.resource_version, node.status, new, awaited=awaited)


def node_status(
    node: NodeView, usage: Usage, snapshot: Snapshot, losses: MassLoss | None, now: datetime
) -> EdgeNodeStatus:
    """The device's status: a new one where something meaningful changed, else the old one as it is."""
    alive = liveness(node, snapshot.installation.beat_interval)
    if alive is Liveness.UNKNOWN:
        return node.status
    held = losses if alive is Liveness.DEAD else None
    why = unready(node, snapshot.installation)
    reason, message = why or ("Fresh", "it reports and can take work")
    old, pausing, full = node.status, _pausing(node.status, held, alive), _why_full(node, snapshot.installation)
    same = (
        old.observed_generation == node.generation
        and ready_reason(old) == reason
        and reason_of(old, "EvictionsPaused") == pausing.reason
        and reason_of(old, "SpoolFull") == (full[0] if full else "Fine")
    )
    if same and not _moved(node, usage, now):
        return old
    missing = unsupported.in_node(node.spec)
    claims = [
        Claim("Ready", why is None, reason, message),
        Claim("Stalled", missing is not None, "NotSupported" if missing else "Fine", missing or ""),
        Claim("Reconciling", False, "Settled", ""),
        Claim("SpoolFull", full is not None, *(full or ("Fine", "it hands out new output volumes"))),
        pausing,
    ]
    beat, ranking = node.beat, device_score(node, Usage())
    values: dict[str, object] = {
        "observed_generation": node.generation,
        "conditions": updated(old.conditions, claims, node.generation, now),
        "running": usage.jobs,
    }
    if alive is Liveness.DEAD and node.kube is not None and held is None and ready_reason(old) not in LOST_REASONS:
        values |= _lost(old, now)
    if alive is Liveness.FRESH and old.losses and old.avoided_until is None:
        values["avoided_until"] = now + _avoided_for(old.losses)
    if beat is not None:
        metrics = beat.metrics
        values |= {
            "score": round(ranking.score, 3),
            "factors": Factors(
                load=round(ranking.factors.load, 3),
                performance=round(ranking.factors.performance, 3),
                thermal=round(ranking.factors.thermal, 3),
            ),
            "metrics": NodeMetrics(
                cpu_free_percent=round(metrics.cpu_free_percent, 1),
                memory_available_percent=round(metrics.memory_available_percent, 1),
                memory_free_bytes=metrics.memory_free_bytes,
                disk_free_bytes=metrics.disk_free_bytes,
                celsius=metrics.celsius,
            ),
            "benchmark": NodeBenchmark(
                events_per_second=round(beat.benchmark.events_per_second, 1), measured_at=beat.benchmark.measured_at
            )
            if beat.benchmark
            else None,
            "spool": NodeSpool(bytes_=beat.spool.bytes_, limit_bytes=beat.spool.limit_bytes),
            "last_beat_time": beat.received_at,
            "agent_version": beat.agent_version,
            "architecture": node.kube.architecture if node.kube else old.architecture,
        }
    return old.model_copy(update=values)


def _why_full(node: NodeView, installation: Installation) -> Why | None:
    """Why the device hands out no new output volume; what was last known of it while it has not reported."""
    if node.beat is None:
        old = named(node.status.conditions, "SpoolFull")
        return (old.reason, old.message) if old is not None and old.status is ConditionStatus.TRUE else None
    return spool_full(node, installation)


def _pausing(old: EdgeNodeStatus, held: MassLoss | None, alive: Liveness) -> Claim:
    """Whether jobs are held back on a dead device. When a mass loss ends, those still silent get a while to report."""
    if held is not None:
        return Claim("EvictionsPaused", True, "MassLoss", held.message)
    if alive is not Liveness.FRESH and (
        holds(old.conditions, "EvictionsPaused") or reason_of(old, "EvictionsPaused") == RECOVERED
    ):
        return Claim("EvictionsPaused", False, RECOVERED, "enough devices report again; this one is waited for a while")
    return Claim("EvictionsPaused", False, "Fine", "")


def _lost(old: EdgeNodeStatus, now: datetime) -> dict[str, object]:
    """One more loss. When the device is back it is avoided, for longer the more losses there were of late."""
    memory = max(SHORTEST_MEMORY, MEMORY * _avoided_for(old.losses))
    forgotten = old.avoided_until is not None and now >= old.avoided_until + memory
    return {"losses": min(MOST_LOSSES, (0 if forgotten else old.losses) + 1), "avoided_until": None}


def _avoided_for(losses: int) -> timedelta:
    doublings: int = min(max(0, losses - 1), 20)
    return min(FIRST_AVOIDED * float(2**doublings), LONGEST_AVOIDED)


def ready_reason(status: EdgeNodeStatus) -> str:
    """The reason of the condition Ready; empty where there is none yet."""
    return reason_of(status, "Ready")


def reason_of(status: EdgeNodeStatus, name: str) -> str:
    """The reason of a condition; empty where there is none yet."""
    condition = named(status.conditions, name)
    return condition.reason if condition else ""


def _moved(node: NodeView, usage: Usage, now: datetime) -> bool:
    """Whether the device's figures have changed enough to be worth a write."""
    old = node.status
    if node.beat is None:
        return False
    if old.score is None or (old.benchmark is None and node.beat.benchmark is not None):
        return True
    if old.last_beat_time is not None and now - old.last_beat_time < QUIET:
        return False
    if old.running != usage.jobs:
        return True
    return abs(device_score(node, Usage()).score - old.score) > MEANINGFUL * max(old.score, 1e-9)


def app_patch(app: AppView, now: datetime) -> PatchStatus | None:
    """An EdgeApp is ready when everything that it asks for is supported."""
    missing = unsupported.in_app(app.spec)
    claims = [
        Claim("Ready", missing is None, "NotSupported" if missing else "Valid", missing or "jobs can use it"),
        Claim("Stalled", missing is not None, "NotSupported" if missing else "Fine", missing or ""),
        Claim("Reconciling", False, "Settled", ""),
    ]
    status = app.status.model_copy(
        update={
            "observed_generation": app.generation,
            "conditions": updated(app.status.conditions, claims, app.generation, now),
        }
    )
    if status == app.status:
        return None
    return PatchStatus("edgeapps", app.key, app.resource_version, app.status, status)
