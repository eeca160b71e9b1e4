"""EdgeNode: a device of the fleet, made by the operator for each Node whose agent reports.

Owns what an admin says about a device (spec) and what is known of it (status); never the Node itself.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from edgewise.api.conditions import Conditions, ObservedGeneration
from edgewise.api.kind import Column, Kind
from edgewise.api.metadata import API_VERSION, Metadata
from edgewise.api.schema import LARGEST_INTEGER, Model, Rule, keyed_by, rules
from edgewise.api.score import Factors, Score
from edgewise.api.text import AbsolutePath, DnsLabel, Timestamp

Percent = Annotated[float, Field(ge=0, le=100)]
ByteCount = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]


class Thermal(Model):
    """The temperatures at which a device gets less work, and none."""

    model_config = rules(
        Rule(
            "self.throttleCelsius < self.criticalCelsius",
            "throttleCelsius must be below criticalCelsius",
            field="throttleCelsius",
        )
    )

    throttle_celsius: Annotated[int, Field(ge=1, le=149)] = 70
    """Above this the score falls, in a straight line."""
    critical_celsius: Annotated[int, Field(ge=2, le=150)] = 85
    """From here on the device gets no work."""


class OfferedDevice(Model):
    """Hardware that jobs can ask for."""

    name: DnsLabel
    """The name that jobs ask for, such as camera."""
    paths: Annotated[tuple[AbsolutePath, ...], Field(min_length=1, max_length=16)]
    """Its device files on the device, absolute and without `..`."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """How many jobs can use it at once."""


class OfferedData(Model):
    """A data folder that jobs can read."""

    name: DnsLabel
    """The name that jobs ask for, such as photos."""
    path: AbsolutePath
    """The folder on the device, absolute and without `..`."""


class EdgeNodeSpec(Model):
    """What an admin says about a device."""

    maintenance: bool = False
    """Whether the device gets no new work; running jobs go on."""
    thermal: Thermal = Thermal()
    """The temperatures at which it gets less work, and none."""
    slots: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many jobs may run at once; the installation's default unless given."""
    devices: Annotated[tuple[OfferedDevice, ...], Field(max_length=16), keyed_by("name")] = ()
    """Hardware that jobs can ask for."""
    data: Annotated[tuple[OfferedData, ...], Field(max_length=16), keyed_by("name")] = ()
    """Data folders that jobs can read."""


class NodeMetrics(Model):
    """What the device measured of itself."""

    cpu_free_percent: Percent
    """Idle CPU, over all of its CPUs."""
    memory_available_percent: Percent
    """Memory that programs can still get."""
    memory_free_bytes: ByteCount
    """Free memory, in bytes."""
    disk_free_bytes: ByteCount = 0
    """Free space of the disk that holds outputs, in bytes."""
    celsius: Annotated[float, Field(ge=-100, le=250)] | None = None
    """The hottest thermal zone; absent when the device has none that can be read."""


class NodeBenchmark(Model):
    """The last `sysbench cpu` result of one thread."""

    events_per_second: Annotated[float, Field(ge=0, le=10_000_000)]
    """How fast it is."""
    measured_at: Timestamp
    """When it was measured, by the device's clock."""


class NodeSpool(Model):
    """The device's store of results that are not home yet."""

    bytes_: ByteCount
    """How full it is, in bytes."""
    limit_bytes: ByteCount
    """At this size no new job with outputs starts there, in bytes."""


class EdgeNodeStatus(Model):
    """What is known of a device. Written on meaningful changes only, so the figures may be a minute old and more."""

    observed_generation: ObservedGeneration = -1
    """The metadata.generation that this was found for; -1 before anyone has looked."""
    score: Score | None = None
    """How good a place for work it is now; 0 is none."""
    factors: Factors | None = None
    """What the score is made of."""
    metrics: NodeMetrics | None = None
    """What the device last measured of itself."""
    benchmark: NodeBenchmark | None = None
    """How fast its processor is."""
    spool: NodeSpool | None = None
    """Results that are not home yet."""
    losses: Annotated[int, Field(ge=0, le=1000)] = 0
    """How often it was lost and came back of late; forgotten when it has kept up for long enough."""
    avoided_until: Timestamp | None = None
    """Until then it takes work only when no other device can: it came back from a loss. Longer with each loss."""
    running: Annotated[int, Field(ge=0, le=10_000)] = 0
    """How many jobs are there."""
    architecture: Annotated[str, Field(max_length=32)] = ""
    """Its processor's architecture, as its Node says."""
    agent_version: Annotated[str, Field(max_length=64)] = ""
    """The version of its agent."""
    last_beat_time: Timestamp | None = None
    """When the beat arrived that the figures come from."""
    conditions: Conditions = ()
    """Ready: it can take work. SpoolFull: it hands out no new output volume. EvictionsPaused: it is silent, and so are
    so many others that its jobs are not moved."""


class EdgeNode(Model):
    """A device of the fleet. It has the name of its Node."""

    api_version: Literal["edgewise.dev/v1alpha1"] = API_VERSION
    kind: Literal["EdgeNode"] = "EdgeNode"
    metadata: Metadata = Metadata()
    spec: EdgeNodeSpec = EdgeNodeSpec()
    """What an admin says about the device."""
    status: EdgeNodeStatus = EdgeNodeStatus()
    """What is known of the device."""


EDGE_NODE: Final = Kind(
    model=EdgeNode,
    plural="edgenodes",
    short_name="en",
    namespaced=False,
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        Column("Score", ".status.score", "number"),
        Column("CPU-Free-%", ".status.metrics.cpuFreePercent", "number"),
        Column("Memory-%", ".status.metrics.memoryAvailablePercent", "number"),
        Column("Temp-°C", ".status.metrics.celsius", "number"),
        Column("Running", ".status.running", "integer"),
        Column("Maintenance", ".spec.maintenance", "boolean", wide=True),
        Column("Arch", ".status.architecture", wide=True),
        Column("Agent", ".status.agentVersion", wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
