"""EdgeJob: one run of an EdgeApp to completion, or a set of such runs: one for each index, or for each device.

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
from edgewise.api.text import DURATION_LENGTH, Duration, ObjectName, OptionalObjectName
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

MOST_COMPLETIONS: Final = 1000

SET_NAME_LENGTH: Final = NAME_LENGTH - len(f"-{MOST_COMPLETIONS - 1}")
"""The longest name of a set of indexed runs: a run's name adds a dash and the index."""

DEVICE_DIGEST: Final = 10
DEVICE_NAME_KEPT: Final = 4
EVERY_DEVICE_NAME_LENGTH: Final = NAME_LENGTH - 1 - DEVICE_NAME_KEPT - 1 - DEVICE_DIGEST
"""The longest name of a set of one run for each device: a run's name adds a dash and the device, of a device with a
long name at least the first 4 characters, a dash and 10 characters made from the whole."""

MaxConcurrent = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else value),
    Field(max_length=4, pattern="^([1-9][0-9]{0,3}|[1-9][0-9]?%|100%)$"),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": 9999,
            "maxLength": 4,
            "pattern": "^([1-9][0-9]{0,3}|[1-9][0-9]?%|100%)$",
        }
    ),
]
"""A number, or a percentage such as 10%."""


class AppReference(Model):
    """The EdgeApp to run."""

    name: Annotated[ObjectName, Field(max_length=NAME_LENGTH)]
    """The name of an EdgeApp in the same namespace."""


class EveryDevice(Model):
    """One run on each device that matches when the set starts."""

    max_concurrent: MaxConcurrent | None = None
    """On how many devices it runs at once: a number, or a percentage of all such as 10%; on all unless given."""
    abort_failure_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """When runs have failed on more than this percentage of all devices, no further ones start, and those that go on
    are cancelled. Unless given it runs everywhere, whatever fails."""


class PlacementSpec(Model):
    """Which devices may run the job, and how one is chosen."""

    model_config = rules(
        Rule(
            "!has(self.everyDevice) || (!has(self.nodeName) || self.nodeName == '') && !has(self.maxPerDevice)",
            "everyDevice is one run on each device: leave out nodeName and maxPerDevice",
            field="everyDevice",
        )
    )

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
    node_name: OptionalObjectName = ""
    """The only device that may run the job; any unless given."""
    max_per_device: Annotated[int, Field(ge=1, le=MOST_COMPLETIONS)] | None = None
    """How many runs of a set may be on one device at once; any number unless given."""
    every_device: EveryDevice | None = None
    """Makes the job a set: one run on each device that matches when it starts."""


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

    model_config = rules(
        Rule(
            "!has(self.placement) || !has(self.placement.everyDevice) || self.completions == 1 && !has(self.index) "
            "&& !has(self.parallelism) && !has(self.maxFailedIndexes)",
            "placement.everyDevice makes one run for each device: leave out completions, parallelism, maxFailedIndexes "
            "and index, and see its own maxConcurrent and abortFailurePercent",
            field="placement",
        ),
        Rule(
            "!has(self.index) || self.index < self.completions",
            "index counts from 0, so it must be less than completions",
            field="index",
        ),
    )

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
    completions: Annotated[int, Field(ge=1, le=MOST_COMPLETIONS)] = 1
    """How many indexed runs the job has; more than one make it a set, and each run is an EdgeJob of its own."""
    parallelism: Annotated[int, Field(ge=1, le=MOST_COMPLETIONS)] | None = None
    """How many indexed runs may go on at once; all unless given."""
    max_failed_indexes: Annotated[int, Field(ge=0, le=MOST_COMPLETIONS)] | None = None
    """How many indexed runs may fail. One more ends the set: those that go on are cancelled, no further ones start. 0
    unless given."""
    index: Annotated[int, Field(ge=0, le=MOST_COMPLETIONS - 1)] | None = None
    """Which of `completions` runs this one is, from 0. A set gives it to the EdgeJobs that it makes; a job that has it
    is one run and no set."""


class EdgeJob(Model):
    """One run of an EdgeApp to completion on the best device, or a set of runs."""

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


def set_names(spec: str, added: int = 0) -> tuple[Rule, Rule]:
    """Rules for an object at whose `spec` an EdgeJob's spec is, and whose name that job's lengthens by `added`."""
    indexed, every = SET_NAME_LENGTH - added, EVERY_DEVICE_NAME_LENGTH - added
    names = "so that the names of its runs can be made from it"
    return (
        Rule(
            f"{spec}.completions == 1 || has({spec}.index) || size(self.metadata.name) <= {indexed}",
            f"the name of a set (completions over 1) must have at most {indexed} characters, {names}",
        ),
        Rule(
            f"!has({spec}.placement) || !has({spec}.placement.everyDevice) || size(self.metadata.name) <= {every}",
            f"the name of a set (placement.everyDevice) must have at most {every} characters, {names}",
        ),
    )


EDGE_JOB: Final = Kind(
    model=EdgeJob,
    plural="edgejobs",
    short_name="ej",
    namespaced=True,
    rules=(
        SHORT_NAME,
        *set_names("self.spec"),
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
        Column("Progress", ".status.runs.progress"),
        Column("Results", ".status.results.state"),
        Column("Files", ".status.results.fileCount", "integer"),
        Column("Score", ".status.placement.score", "number", wide=True),
        Column("Priority", ".spec.priority", "integer", wide=True),
        Column("Failures", ".status.failures", "integer", wide=True),
        Column("Disruptions", ".status.disruptions", "integer", wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
