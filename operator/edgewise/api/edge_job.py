"""EdgeJob: one run of an EdgeApp to completion, or an indexed set of them.

Owns what a user asks for; what became of it is in job_status.py.
"""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from edgewise.api.edge_app import Arguments
from edgewise.api.environment import Env, EnvSources
from edgewise.api.job_status import EdgeJobStatus
from edgewise.api.kind import Column, Kind
from edgewise.api.metadata import API_VERSION, NAME_LENGTH, SHORT_NAME, Metadata
from edgewise.api.schema import Model, Rule, api_name, rules, unique
from edgewise.api.selection import Affinity, NodeSelector
from edgewise.api.text import DURATION_LENGTH, Duration, ObjectName
from edgewise.notation import DURATION_PATTERN

Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
"""A length of time in seconds, up to a year."""


def _unless(word: str) -> BeforeValidator:
    """Reads `word` as None. Null alone would not do: `kubectl apply` drops it, and the default would come back."""
    return BeforeValidator(lambda value: None if value == word else value)


Never: Final = "Never"
ReplaceAfter = Annotated[
    Annotated[int, Field(ge=1, le=31_536_000)] | None,
    _unless(Never),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "nullable": True,
            "minimum": 1,
            "maximum": 31_536_000,
            "maxLength": len(Never),
            "pattern": f"^{Never}$",
        }
    ),
]
"""Seconds, or None for `Never`."""

Forever: Final = "Forever"
KeptFor = Annotated[
    Duration | None,
    _unless(Forever),
    WithJsonSchema(
        {
            "type": "string",
            "nullable": True,
            "minLength": 2,
            "maxLength": DURATION_LENGTH,
            "pattern": f"^({Forever}|{DURATION_PATTERN})$",
        }
    ),
]
"""A `Duration`, or None for `Forever`."""

CHANGEABLE: Final = frozenset({"suspend", "cancel", "priority", "retention"})
"""The fields of an EdgeJob's spec that may change after its creation."""


class AppReference(Model):
    """The EdgeApp to run."""

    name: Annotated[ObjectName, Field(max_length=NAME_LENGTH)]
    """The name of an EdgeApp in the same namespace."""


class PlacementSpec(Model):
    """Which devices may run the job, and how one is chosen."""

    policy: Annotated[str, Field(max_length=63, pattern="^([A-Z][A-Za-z0-9]*)?$")] = ""
    """How devices are compared, such as Score; the installation's default when empty."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels that a device must have, besides those that the app requires."""
    affinity: Affinity = ()
    """Requirements on a device's labels that must all be met."""
    avoid: Annotated[tuple[ObjectName, ...], Field(max_length=100), unique()] = ()
    """Devices that are used only when no other can run the job."""
    evict_when_hot: bool = False
    """Whether the job is moved when its device gets critically hot; otherwise it stays."""


class Retry(Model):
    """How often, and how soon, a failed attempt is repeated."""

    model_config = rules(
        Rule(
            "self.backoffSeconds <= self.maxBackoffSeconds",
            "backoffSeconds must not exceed maxBackoffSeconds: raise maxBackoffSeconds too",
            field="backoffSeconds",
        )
    )

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How often the app may fail by its own fault before the job fails."""
    backoff_seconds: Annotated[int, Field(ge=0, le=86_400)] = 10
    """How long to wait after the first failure; twice as long after each further one."""
    max_backoff_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    """The longest wait."""
    non_retriable_exit_codes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(max_length=255), unique()
    ] = ()
    """Exit codes that fail the job at once."""
    max_disruptions: Annotated[int, Field(ge=0, le=100)] = 10
    """How many attempts may be lost by no fault of the app's (device lost, evicted, too hot, no room)."""


class Disconnect(Model):
    """What happens when the job's device can't be reached."""

    replace_after_seconds: ReplaceAfter = 60
    """How long to wait before the job is started elsewhere, in seconds, and two missed beats at least; Never (or null)
    waits for the device."""


class Retention(Model):
    """How long what a finished job leaves behind is kept. The EdgeJob itself is never deleted."""

    pods: KeptFor = "1h"
    """How long its pods are kept, such as 90s, 1h30m or 7d; Forever (or null) keeps them."""
    results: KeptFor = None
    """How long its results are kept, such as 90s, 1h30m or 7d; Forever (or null) keeps them."""


class EdgeJobSpec(Model):
    """What to run, where, and how to deal with failure."""

    app_ref: AppReference
    """The EdgeApp to run."""
    args: Arguments | None = None
    """Replaces the app's arguments; null leaves them."""
    extra_args: Arguments = ()
    """Added after the arguments."""
    env: Env = ()
    """Environment variables, besides the app's; of equal names the job's wins."""
    env_from: EnvSources = ()
    """ConfigMaps and Secrets whose keys become environment variables, besides the app's."""
    placement: PlacementSpec = PlacementSpec()
    """Which devices may run it, and how one is chosen."""
    retry: Retry = Retry()
    """How often, and how soon, a failed attempt is repeated."""
    disconnect: Disconnect = Disconnect()
    """What happens when its device can't be reached."""
    active_deadline_seconds: Seconds | None = None
    """How long the job may take, from its first attempt on."""
    queue_deadline_seconds: Seconds | None = None
    """How long the job may wait for its first device before it fails."""
    retention: Retention = Retention()
    """How long pods and results are kept."""
    suspend: bool = False
    """Whether the job is held back; a running attempt is ended."""
    cancel: bool = False
    """Whether the job is ended for good; can't be taken back."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Jobs of higher priority are placed first."""
    completions: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many indexed runs make the job complete."""
    parallelism: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many indexed runs may go on at once; all unless given."""


class EdgeJob(Model):
    """One run of an EdgeApp to completion on the best device, or an indexed set of runs."""

    api_version: Literal["edgewise.dev/v1alpha1"] = API_VERSION
    kind: Literal["EdgeJob"] = "EdgeJob"
    metadata: Metadata = Metadata()
    spec: EdgeJobSpec
    """What to run, where, and how to deal with failure."""
    status: EdgeJobStatus = EdgeJobStatus()
    """What became of it."""


def _unchanging(field: str) -> Rule:
    # Not `self.?field == oldSelf.?field`: the API server can't estimate the cost of comparing optionals.
    new, old = f"self.spec.{field}", f"oldSelf.spec.{field}"
    return Rule(
        f"has({new}) == has({old}) && (!has({new}) || {new} == {old})",
        f"{field} can't be changed after the job's creation: delete the EdgeJob and create it anew, or create another",
        field=f"spec.{field}",
    )


EDGE_JOB: Final = Kind(
    model=EdgeJob,
    plural="edgejobs",
    short_name="ej",
    namespaced=True,
    rules=(
        SHORT_NAME,
        Rule(
            "!oldSelf.spec.cancel || self.spec.cancel",
            "cancel can't be taken back: create another EdgeJob",
            field="spec.cancel",
        ),
        *(_unchanging(api_name(name)) for name in EdgeJobSpec.model_fields if name not in CHANGEABLE),
    ),
    columns=(
        Column("Phase", ".status.phase"),
        Column("App", ".spec.appRef.name"),
        Column("Device", ".status.node"),
        Column("Attempt", ".status.attempts[-1:].number", "integer"),
        Column("Results", ".status.results.state"),
        Column("Files", ".status.results.fileCount", "integer"),
        Column("Score", ".status.placement.score", "number", wide=True),
        Column("Priority", ".spec.priority", "integer", wide=True),
        Column("Failures", ".status.failures", "integer", wide=True),
        Column("Disruptions", ".status.disruptions", "integer", wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
