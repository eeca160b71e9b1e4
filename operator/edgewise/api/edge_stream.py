"""EdgeStream: an EdgeApp that runs until it is deleted or suspended, and sends its files home as it closes them.

Owns what a user asks for and what became of it; domain/streams.py says when the next run starts.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from edgewise.api.conditions import Conditions, ObservedGeneration
from edgewise.api.edge_app import Arguments
from edgewise.api.edge_cron_job import JobTemplateMetadata
from edgewise.api.edge_job import AppReference, Disconnect, EdgeJobSpec, Retention
from edgewise.api.environment import Env, EnvSources
from edgewise.api.job_status import Count
from edgewise.api.kind import Column, Kind
from edgewise.api.metadata import API_VERSION, NAME_LENGTH, Metadata
from edgewise.api.schema import LARGEST_INTEGER, Model, Rule, spec_body, unique
from edgewise.api.selection import Affinity, NodeSelector
from edgewise.api.text import ObjectName, OptionalObjectName, Timestamp

RUN_DIGITS: Final = 10
"""The most digits that the number of a run has."""

STREAM_NAME_LENGTH: Final = NAME_LENGTH - 1 - RUN_DIGITS
"""The longest name of an EdgeStream: a run's name adds a dash and its number."""


class StreamPlacement(Model):
    """Which devices may run the stream, and how one is chosen. It leaves a device that gets critically hot."""

    policy: Annotated[str, Field(max_length=63, pattern="^([A-Z][A-Za-z0-9]*)?$")] = ""
    """How devices are compared, such as Score; the installation's default when empty."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels that a device must have, besides those that the app requires."""
    affinity: Affinity = ()
    """Requirements on a device's labels that must all be met."""
    avoid: Annotated[tuple[ObjectName, ...], Field(max_length=100), unique()] = ()
    """Devices that are used only when no other can run the stream."""


class StreamJobSpec(Model):
    """What of an EdgeJob's spec a run has from its stream. The stream itself decides how often it is tried again."""

    app_ref: AppReference
    """The EdgeApp to run."""
    args: Arguments | None = None
    """Replaces the app's arguments; null leaves them."""
    extra_args: Arguments = ()
    """Added after the arguments."""
    env: Env = ()
    """Environment variables, besides the app's; of equal names the stream's wins."""
    env_from: EnvSources = ()
    """ConfigMaps and Secrets whose keys become environment variables, besides the app's."""
    placement: StreamPlacement = StreamPlacement()
    """Which devices may run it, and how one is chosen."""
    disconnect: Disconnect = Disconnect()
    """What happens when its device can't be reached."""
    retention: Retention = Retention()
    """How long pods and files are kept, from the end of the run that they are of."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Jobs of higher priority are placed first."""


def job_spec(template: StreamJobSpec) -> EdgeJobSpec:
    """The spec of a run's EdgeJob: it is tried once, and leaves a device that gets hot. The stream does the rest."""
    body = spec_body(template)
    placement = {**body.get("placement", {}), "evictWhenHot": True}
    return EdgeJobSpec.model_validate(
        {**body, "placement": placement, "retry": {"maxAttempts": 1, "maxDisruptions": 0}}
    )


class StreamJobTemplate(Model):
    """The EdgeJob that each run is."""

    metadata: JobTemplateMetadata = JobTemplateMetadata()
    """Labels and annotations of each run; an edit holds for the runs after it."""
    spec: StreamJobSpec
    """The spec of each run; an edit replaces the run that goes on."""


class EdgeStreamSpec(Model):
    """What to run."""

    suspend: bool = False
    """Whether nothing runs; the run that goes on is ended, and its files come home."""
    runs_history_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """How many ended runs are kept. Their files are kept by retention, whether the runs are there or not."""
    job_template: StreamJobTemplate
    """The EdgeJob that each run is."""


class StreamPhase(StrEnum):
    """How the stream stands, in one word for people. Programs read the conditions."""

    PENDING = "Pending"
    """the run waits for a device"""
    BOUND = "Bound"
    """a device has been chosen; the app does not run yet"""
    RUNNING = "Running"
    RESTARTING = "Restarting"
    """the last run has ended; the next one is to come"""
    SUSPENDED = "Suspended"


class EdgeStreamStatus(Model):
    """Which run goes on, where, and what comes home of it."""

    observed_generation: ObservedGeneration = -1
    """The metadata.generation that this was found for; -1 before anyone has looked."""
    phase: StreamPhase | None = None
    """How the stream stands, in one word for people."""
    run: OptionalObjectName = ""
    """The name of the last run's EdgeJob."""
    run_number: Count = 0
    """How many runs there have been; the last one has this number in its name."""
    device: OptionalObjectName = ""
    """Where the run goes on; empty while none does."""
    restarts: Count | None = None
    """How often a run followed one that had ended by itself or lost its device; absent before anyone has looked."""
    quick_ends: Count = 0
    """How many runs in a row, up to the one before the last, ended so soon that the next one had to wait longer."""
    last_file_time: Timestamp | None = None
    """When a file last came home; written once a minute at most."""
    lag_seconds: Annotated[int, Field(ge=0, le=LARGEST_INTEGER)] | None = None
    """How long that was ago when this was written, in seconds; absent while suspended, and before the first file."""
    next_run_at: Timestamp | None = None
    """The earliest time of the next run, where it has to wait."""
    conditions: Conditions = ()
    """Ready: its app runs, or it is suspended. Reconciling: it is about to. Stalled: it can't, until somebody corrects
    what the message names."""


class EdgeStream(Model):
    """Runs an EdgeApp until it is deleted or suspended, on one device at a time."""

    api_version: Literal["edgewise.dev/v1alpha1"] = API_VERSION
    kind: Literal["EdgeStream"] = "EdgeStream"
    metadata: Metadata = Metadata()
    spec: EdgeStreamSpec
    """What to run."""
    status: EdgeStreamStatus = EdgeStreamStatus()
    """Which run goes on, where, and what comes home of it."""


EDGE_STREAM: Final = Kind(
    model=EdgeStream,
    plural="edgestreams",
    short_name="est",
    namespaced=True,
    rules=(
        Rule(
            f"size(self.metadata.name) <= {STREAM_NAME_LENGTH}",
            f"the name must have at most {STREAM_NAME_LENGTH} characters, so that the names of its runs can be made "
            "from it",
        ),
    ),
    columns=(
        Column("Phase", ".status.phase"),
        Column("App", ".spec.jobTemplate.spec.appRef.name"),
        Column("Device", ".status.device"),
        Column("Run", ".status.runNumber", "integer"),
        Column("Restarts", ".status.restarts", "integer"),
        Column("Lag", ".status.lagSeconds", "integer"),
        Column("Last-File", ".status.lastFileTime", "date"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        Column("Next-Run", ".status.nextRunAt", wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
