"""Whether a device is there: from the age of its beats and from what Kubernetes says of its kubelet.

A stale device takes no new work, its running work goes on. A device is dead only when both its agent and its
kubelet have gone silent: a dead agent on a living device never kills a job. One whose kubelet alone has been away for
long is as good as dead: it can start nothing, and tells of no pod's end.
"""

from datetime import timedelta
from enum import Enum
from functools import lru_cache
from typing import Final

from edgewise.domain.views import NodeView

STALE_INTERVALS = 1.5
DEAD_INTERVALS = 2.0
LEASE_RENEWALS = 1.2
"""A Lease that is older than this many renewals has been missed."""
KUBELET_DOWN: Final = timedelta(minutes=5)
"""For so long Kubernetes must have had no contact with the kubelet of a device whose agent reports."""


_AT_PRESENT: Final = timedelta()
DEAD_REASONS: Final = frozenset({"Dead", "KubeletDown"})
"""The reasons for which a device that is dead is not ready."""
LOST_REASONS: Final = DEAD_REASONS | {"OutOfService"}
"""The same, and that of a device that an admin has declared lost, which may be dead as well."""
OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"
"""Kubernetes' own taint, by which an admin declares a node lost."""


class Liveness(Enum):
    """What is known of a device's life."""

    FRESH = "Fresh"
    UNKNOWN = "Unknown"
    """no beat, but this operator has not led for long enough to miss one"""
    STALE = "Stale"
    """no beat for 1.5 intervals"""
    DEAD = "Dead"
    """no beat for 2 intervals, and the kubelet has fallen silent too; or beats, and no kubelet for 5 minutes"""


def silence(node: NodeView) -> timedelta:
    """How long no beat has come, as far as this operator can know."""
    return node.beat.age if node.beat else node.leading_for


def late(node: NodeView, interval: timedelta) -> bool:
    """Whether the next beat should have come. `interval` is the installation's, for a device that has not reported."""
    stale, _ = _limits(node.beat.interval if node.beat else interval)
    return silence(node) >= stale


def kubelet_down(node: NodeView, ahead: timedelta = _AT_PRESENT) -> bool:
    """Whether the kubelet has been away for so long that beats alone make the device no use, or will be `ahead`."""
    if node.beat is None:  # without beats their silence tells
        return False
    return node.kubelet_lost_for + ahead >= max(KUBELET_DOWN, node.beat.interval * DEAD_INTERVALS)


def lost_for(node: NodeView, ahead: timedelta = _AT_PRESENT) -> timedelta:
    """How long agent or kubelet, once it is down or will be `ahead`, has been silent, as far as is known."""
    return max(silence(node), node.kubelet_lost_for) if kubelet_down(node, ahead) else silence(node)


def out_of_service(node: NodeView) -> bool:
    """Whether an admin has declared the device lost."""
    return node.kube is not None and any(taint.key == OUT_OF_SERVICE for taint in node.kube.taints)


def kubelet_silent(node: NodeView) -> bool:
    """Whether the kubelet has missed its Lease, or Kubernetes has given it up (which takes it 40 s and more)."""
    if node.kube is None or node.kube.ready is None:
        return True
    return node.lease is not None and node.lease.age > node.lease.renewal * LEASE_RENEWALS


def liveness(node: NodeView, interval: timedelta) -> Liveness:
    """The device's liveness. `interval` is the installation's, for a device that has not reported yet."""
    if kubelet_down(node):
        return Liveness.DEAD
    if not late(node, interval):
        return Liveness.FRESH if node.beat else Liveness.UNKNOWN
    _, dead = _limits(node.beat.interval if node.beat else interval)
    return Liveness.DEAD if silence(node) >= dead and kubelet_silent(node) else Liveness.STALE


@lru_cache(maxsize=64)
def _limits(interval: timedelta) -> tuple[timedelta, timedelta]:
    """From which silence on a device is stale, and may be dead."""
    return interval * STALE_INTERVALS, interval * DEAD_INTERVALS
