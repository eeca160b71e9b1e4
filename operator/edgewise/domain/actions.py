"""What a plan can ask for. control/writer.py carries each out; nothing else writes to the API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from edgewise.api.schema import Model, status_body
from edgewise.domain.massloss import MassLoss
from edgewise.domain.views import Key


@dataclass(frozen=True, slots=True)
class CreateNode:
    """Make the EdgeNode of a device whose agent has reported for the first time. It goes when its Node goes."""

    name: str
    node_uid: str


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create a job's pod. It is no error when the job's own pod of that name is there already."""

    job: Key
    job_uid: str
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete exactly this pod: by UID and, where `resource_version` is given, only if it has not changed since."""

    pod: Key
    uid: str
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class CreateRun:
    """Create a run of an EdgeCronJob or EdgeStream. It is no error when its own run of that name is there already."""

    owner: Key
    owner_uid: str
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteRun:
    """Delete exactly this EdgeJob, by UID. Its pods go after it; its results stay."""

    job: Key
    uid: str


@dataclass(frozen=True, slots=True)
class PatchSpec:
    """Change fields of an EdgeJob's spec, if it is still at `resource_version`."""

    job: Key
    resource_version: str
    spec: Mapping[str, Any]
    """as JSON; fields that are not named stay"""


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """Bring an object's status from `before` to `after` (both whole), if the object is still at `resource_version`.

    Both are turned into JSON only when they are written: a pass may ask for many more writes than it carries out.
    """

    plural: str
    key: Key
    """the namespace is empty for EdgeNodes"""
    resource_version: str
    before: Model
    after: Model
    events: tuple["Event", ...] = ()
    """what to tell once it is written"""
    awaited: bool = False
    """whether decisions wait for it, so that it is as urgent as what starts or frees a device"""

    @property
    def old(self) -> dict[str, Any]:
        """The status that the API holds, as JSON."""
        return status_body(self.before)

    @property
    def new(self) -> dict[str, Any]:
        """The status that it shall hold, as JSON."""
        return status_body(self.after)


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event on an object: `kind` Warning or Normal, `reason` one CamelCase word."""

    regarding_kind: str
    key: Key
    uid: str
    warning: bool
    reason: str
    message: str


P = ParamSpec("P")
R = TypeVar("R")

Action = CreateNode | CreatePod | CreateRun | DeletePod | DeleteRun | PatchSpec | PatchStatus


@dataclass(frozen=True, slots=True)
class Fault:
    """An object that a decision failed on: a bug, or an object that should never have been."""

    what: str
    error: Exception


def guarded(faults: list[Fault], what: str, decide: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """The decision about one object; None, and a fault, where it fails: all the others must go on."""
    try:
        return decide(*args, **kwargs)
    except Exception as error:  # told in the plan, logged with its traceback by the cycle
        faults.append(Fault(what, error))
        return None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and when to look again even if nothing happens (None: no need)."""

    actions: tuple[Action, ...]
    wake_at: datetime | None
    faults: tuple[Fault, ...] = ()
    """objects that could not be decided about"""
    mass_loss: MassLoss | None = None
    """set while no job is moved, because too many devices fell silent at once"""
