"""May this device take this job? One pure function a rule, each returning why not.

DEVICE_RULES are about the device alone and make its readiness; JOB_RULES are about the device and one job. Their order
is the order in which reasons are looked for: a device is rejected with the first that holds.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from edgewise.api import NodeRequirement, Toleration
from edgewise.domain.demand import Demand, Usage, slots_of
from edgewise.domain.liveness import OUT_OF_SERVICE, Liveness, late, liveness, out_of_service, silence
from edgewise.domain.views import Installation, NodeView, Taint


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a device can't take a job: `reason` for programs, `message` for people."""

    node: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Candidacy:
    """One device and one job, looked at together."""

    node: NodeView
    demand: Demand
    usage: Usage
    installation: Installation


Why = tuple[str, str]
DeviceRule = Callable[[NodeView, Installation], Why | None]
JobRule = Callable[[Candidacy], Why | None]


def gone(node: NodeView, installation: Installation) -> Why | None:
    """Kubernetes has no Node of this name."""
    return None if node.kube else ("Dead", "the cluster has no Node of this name (any more)")


def declared_lost(node: NodeView, installation: Installation) -> Why | None:
    """An admin has declared the device lost."""
    if out_of_service(node):
        return "OutOfService", f"an admin has declared it lost; when it is back, remove its taint {OUT_OF_SERVICE}"
    return None


def dead(node: NodeView, installation: Installation) -> Why | None:
    """Neither the agent nor the kubelet has reported, or the kubelet has not for long."""
    if liveness(node, installation.beat_interval) is not Liveness.DEAD:
        return None
    if not late(node, installation.beat_interval):
        away = f"{node.kubelet_lost_for.total_seconds() / 60:.0f} minutes"
        return "KubeletDown", f"its agent reports, but its kubelet has been silent for {away}: is it running?"
    silent = _seconds(node)
    return "Dead", f"no beat for {silent}, and none of its kubelet: is it powered and connected?"


def stale(node: NodeView, installation: Installation) -> Why | None:
    """The agent's figures are too old to decide by."""
    if liveness(node, installation.beat_interval) not in (Liveness.STALE, Liveness.UNKNOWN):
        return None
    if node.beat is None:
        return "Stale", "its agent has not reported yet"
    return "Stale", f"no beat for {_seconds(node)}: the figures are too old to decide by"


def not_ready(node: NodeView, installation: Installation) -> Why | None:
    """The kubelet can't run pods, or nobody knows whether it can."""
    if node.kube is None or node.kube.ready:
        return None
    why = "has fallen silent" if node.kube.ready is None else "reports that it can't run pods"
    return "NotReady", f"its kubelet {why} (kubectl describe node {node.name})"


def maintenance(node: NodeView, installation: Installation) -> Why | None:
    """An admin has taken the device out, through Edgewise or by kubectl cordon."""
    if node.spec.maintenance:
        return "Maintenance", "spec.maintenance of its EdgeNode is true"
    if node.kube and node.kube.unschedulable:
        return "Maintenance", "it is cordoned (kubectl uncordon gives it back)"
    return None


def too_hot(node: NodeView, installation: Installation) -> Why | None:
    """Critical temperature: the device must cool before it takes work."""
    celsius = node.beat.metrics.celsius if node.beat else None
    critical = node.spec.thermal.critical_celsius
    if celsius is not None and celsius >= critical:
        return "TooHot", f"{celsius:.0f} °C, critical {critical:.0f} °C"
    return None


def spool_full(node: NodeView, installation: Installation) -> Why | None:
    """The device hands out no new output volume: unsent results fill its spool, or its disk has too little room."""
    if node.beat is None:
        return None
    spool = node.beat.spool
    if spool.bytes_ >= spool.limit_bytes:
        return "SpoolFull", f"{spool.bytes_} of {spool.limit_bytes} bytes of unsent results: is its uplink working?"
    return ("SpoolFull", spool.full) if spool.full else None


def pressure(node: NodeView, installation: Installation) -> Why | None:
    """Kubernetes' taints of a device that is short of memory, disk or process ids."""
    for taint in node.kube.taints if node.kube else ():
        if taint.key.startswith("node.kubernetes.io/") and taint.key.endswith("-pressure"):
            return "Pressure", f"its kubelet reports {taint.key.removeprefix('node.kubernetes.io/')}"
    return None


def named(one: Candidacy) -> Why | None:
    """The only device that the job may run on."""
    name = one.demand.spec.placement.node_name
    return ("Selector", f"the job wants {name}") if name and name != one.node.name else None


def enough_of_the_set(one: Candidacy) -> Why | None:
    """As many runs of the job's set are there as one device may have at once."""
    there, most = one.usage.siblings[one.demand.set_uid], one.demand.spec.placement.max_per_device
    if not one.demand.set_uid or most is None or there < most:
        return None
    return "MaxPerDevice", f"{there} of the set's runs are there, spec.placement.maxPerDevice is {most}"


def full(one: Candidacy) -> Why | None:
    """Every slot is taken."""
    slots = slots_of(one.node, one.installation)
    return ("Full", f"{one.usage.jobs} of {slots} slots taken") if one.usage.jobs >= slots else None


def selector(one: Candidacy) -> Why | None:
    """The labels that the app or the job asks for."""
    labels = one.node.kube.labels if one.node.kube else {}
    wanted = {**one.demand.app.requires.node_selector, **one.demand.spec.placement.node_selector}
    for key, value in wanted.items():
        if labels.get(key) != value:
            return "Selector", f"its label {key} is {_shown(labels.get(key))}, the job wants {value}"
    return None


def affinity(one: Candidacy) -> Why | None:
    """The job's node requirements."""
    labels = one.node.kube.labels if one.node.kube else {}
    for requirement in one.demand.spec.placement.affinity:
        if not _satisfies(labels.get(requirement.key), requirement):
            wanted = " ".join([requirement.operator, *requirement.values])
            return "Selector", f"its label {requirement.key} is {_shown(labels.get(requirement.key))}, wanted {wanted}"
    return None


def architecture(one: Candidacy) -> Why | None:
    """The processor architectures that the app's image is built for."""
    wanted = one.demand.app.requires.architectures
    if one.node.kube and wanted and one.node.kube.architecture not in wanted:
        return "Architecture", f"it is {one.node.kube.architecture}, the app runs on {', '.join(wanted)}"
    return None


def taints(one: Candidacy) -> Why | None:
    """Taints that the app does not tolerate. Kubernetes' own of a silent or cordoned node are other rules' business."""
    for taint in one.node.kube.taints if one.node.kube else ():
        if taint.effect == "PreferNoSchedule" or taint.key.startswith("node.kubernetes.io/"):
            continue
        if not tolerated(taint, one.demand.app.tolerations):
            return "Taint", f"its taint {taint.key}={taint.value}:{taint.effect} is not tolerated by the app"
    return None


def does_not_fit(one: Candidacy) -> Why | None:
    """Free allocatable against the app's requests. Pods of others are not counted: the scheduler has the last word."""
    allocatable = one.node.kube.allocatable if one.node.kube else {}
    for resource, wanted in one.demand.requests.items():
        free = allocatable.get(resource, 0.0) - one.usage.requests[resource]
        if wanted > free + 1e-9:
            return "DoesNotFit", f"{resource}: {wanted:g} requested, {max(0.0, free):g} free"
    return None


DEVICE_RULES: tuple[DeviceRule, ...] = (
    gone,
    declared_lost,
    dead,
    stale,
    not_ready,
    maintenance,
    too_hot,
    spool_full,
    pressure,
)

JOB_RULES: tuple[JobRule, ...] = (
    named,
    selector,
    affinity,
    architecture,
    taints,
    enough_of_the_set,
    full,
    does_not_fit,
)


def unready(node: NodeView, installation: Installation) -> Why | None:
    """Why the device can take no work at all, or None: it is ready."""
    return next((why for rule in DEVICE_RULES if (why := rule(node, installation))), None)


def unfit(one: Candidacy) -> Rejection | None:
    """The first rule about the job that speaks against a ready device, or None: it may take the job."""
    why = next((why for rule in JOB_RULES if (why := rule(one))), None)
    return Rejection(one.node.name, *why) if why else None


def rejection(one: Candidacy) -> Rejection | None:
    """The first rule of all that speaks against the device, or None: it may take the job."""
    why = unready(one.node, one.installation)
    return Rejection(one.node.name, *why) if why else unfit(one)


def matches(node: NodeView, demand: Demand, installation: Installation) -> bool:
    """Whether the device could take the job if it were ready and had no other work."""
    if gone(node, installation) or declared_lost(node, installation):
        return False
    return unfit(Candidacy(node, demand, Usage(), installation)) is None


PASSING = ("Full", "DoesNotFit")
"""The reasons that may end when jobs on the device do."""


def is_busy(one: Candidacy, why_not: Rejection) -> bool:
    """Whether a ready device that is rejected could take the job if the jobs that are there were done."""
    return why_not.reason in PASSING and unfit(replace(one, usage=Usage())) is None


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """Kubernetes' rule: an empty key with Exists tolerates all; an empty effect matches every effect."""
    return any(
        (not toleration.effect or toleration.effect == taint.effect)
        and (not toleration.key or toleration.key == taint.key)
        and (toleration.operator == "Exists" or (bool(toleration.key) and (toleration.value or "") == taint.value))
        for toleration in tolerations
    )


def _satisfies(value: str | None, requirement: NodeRequirement) -> bool:
    match requirement.operator:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Gt" | "Lt":
            return _compares(value, requirement)
        case other:
            raise ValueError(f"operator {other} of a node requirement is not known")


def _compares(value: str | None, requirement: NodeRequirement) -> bool:
    """Gt and Lt as Kubernetes has them: both sides whole numbers, anything else never matches."""
    try:
        left, right = int(value or ""), int(requirement.values[0])
    except (ValueError, IndexError):
        return False
    return left > right if requirement.operator == "Gt" else left < right


def _shown(label: str | None) -> str:
    return "not set" if label is None else label


def _seconds(node: NodeView) -> str:
    return f"{silence(node).total_seconds():.0f} s"
