"""When much of the fleet falls silent at once, the fault is more likely ours than theirs: then no job is moved.

A switch at home, an expired certificate or a wrong firewall rule looks like the death of every device. Moving all work
to the few devices that are left would throw the work of the others away and crush the few. This module owns when that
is so, from the snapshot alone; observation.py heeds it. An admin who knows better declares a device lost by Kubernetes'
own taint `node.kubernetes.io/out-of-service`.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from edgewise.api import ConditionStatus
from edgewise.domain.conditions import named
from edgewise.domain.liveness import DEAD_REASONS, Liveness, kubelet_down, liveness, lost_for, out_of_service, silence
from edgewise.domain.views import NodeView

FEWEST: Final = 5
"""Fewer devices can well die by chance, or by one fuse."""

SHARE: Final = 0.55
"""Of the devices that lived until then, more than this share must be gone."""

SUSPECT_INTERVALS: Final = 1.1
UNDECIDED_INTERVALS: Final = 3.0
"""A device whose beat is late by up to this may be dying; the first death of many must not be acted upon before."""

SHORTEST_DELAY: Final = timedelta(seconds=1)
"""A pause of the operator's own, or of the network, must not make devices with quick beats look silent."""

KUBELETS_WITHIN: Final = timedelta(seconds=60)
"""Kubernetes sees the end of contact with many kubelets within this time; the first must not be acted upon before."""

SHORTEST_WINDOW: Final = timedelta(seconds=60)

REMEDY: Final = "kubectl taint node NAME node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"

RECOVERED: Final = "Recovered"
"""The reason of EvictionsPaused on a device that is still silent when a mass loss has just ended."""

HELD_BACK: Final = "it is silent, and so are so many other devices at once that no job is moved"
"""What a job says. Without figures: they change with each device, and each change would be a write of every job."""


@dataclass(frozen=True, slots=True)
class MassLoss:
    """`lost` devices of `of` that lived have fallen silent at once."""

    lost: int
    of: int

    @property
    def message(self) -> str:
        """What is paused, why, and what an admin can do."""
        return (
            f"{self.lost} of {self.of} devices fell silent at once, so the fault is likely at home (network, DNS, "
            f"certificates): no job is moved until they report again; a device that is really lost: {REMEDY}"
        )


def mass_loss(nodes: Iterable[NodeView], interval: timedelta, now: datetime) -> MassLoss | None:
    """The greatest loss of many devices at once, or None while there is no such loss.

    "At once" is within three beats, or a minute if that is longer. Devices in maintenance, cordoned, without a Node, or
    declared lost count neither way: their silence is no surprise.
    """
    counted = [node for node in nodes if _counts(node)]
    gone = sorted(_heard_last(node, now) for node in counted if _is_going(node, interval))
    if len(gone) < FEWEST:
        return None
    living = len(counted) - len(gone)
    window = _at_once(interval)
    losses = [MassLoss(bisect_right(gone, first + window) - n, living + len(gone) - n) for n, first in enumerate(gone)]
    mass = [one for one in losses if one.lost >= FEWEST and one.lost > SHARE * one.of]
    return max(mass, key=lambda one: one.lost, default=None)


def waited_for_until(node: NodeView, interval: timedelta, now: datetime) -> datetime | None:
    """Until when a silent device is waited for after a mass loss, by its written status; None: it is not.

    Beats come one interval apart, and a loss ends when enough devices are back: the others are about to be.
    """
    paused = named(node.status.conditions, "EvictionsPaused")
    if paused is None or (paused.status is not ConditionStatus.TRUE and paused.reason != RECOVERED):
        return None
    ended = now if paused.status is ConditionStatus.TRUE else paused.last_transition_time
    until = ended + _at_once(interval)
    return until if now < until else None


def _at_once(interval: timedelta) -> timedelta:
    """Within how long many losses, or many returns, are one event."""
    return max(SHORTEST_WINDOW, interval * UNDECIDED_INTERVALS)


def _counts(node: NodeView) -> bool:
    kube = node.kube
    return kube is not None and not (node.spec.maintenance or kube.unschedulable or out_of_service(node))


def _is_going(node: NodeView, interval: timedelta) -> bool:
    """Whether the device is dead, or so late that it may be about to die."""
    if liveness(node, interval) is Liveness.DEAD or kubelet_down(node, KUBELETS_WITHIN):
        return True
    expected, silent = node.beat.interval if node.beat else interval, silence(node)
    overdue = max(expected * SUSPECT_INTERVALS, expected + SHORTEST_DELAY)
    return overdue <= silent < max(expected * UNDECIDED_INTERVALS, overdue + expected)


def _heard_last(node: NodeView, now: datetime) -> datetime:
    """When the device was last heard, as far as is known: a restarted operator has only what its status says."""
    if node.beat is not None:
        return now - lost_for(node, KUBELETS_WITHIN)
    ready = named(node.status.conditions, "Ready")
    known = ready is not None and ready.reason in (*DEAD_REASONS, "Stale")
    return ready.last_transition_time if ready and known else now - node.leading_for
