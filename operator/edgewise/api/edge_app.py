"""EdgeApp: what to run. An image, the app's own files, a command, its outputs, and what it needs of a device.

Owns every field of a pod that a real job needs, and no other; never where or when it runs.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from edgewise.api.conditions import Conditions, ObservedGeneration
from edgewise.api.environment import Env, EnvSources
from edgewise.api.kind import Column, Kind
from edgewise.api.metadata import API_VERSION, SHORT_NAME, Metadata
from edgewise.api.mounts import FileMounts, Inputs, Outputs, Source
from edgewise.api.quantities import Resources
from edgewise.api.schema import Model, Rule, keyed_by, rules
from edgewise.api.security import SecurityContext
from edgewise.api.selection import Requirements, Tolerations
from edgewise.api.text import ObjectName, OptionalObjectName

Argument = Annotated[str, Field(max_length=8192)]
Arguments = Annotated[tuple[Argument, ...], Field(max_length=256)]

_REGISTRY = r"(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9][a-zA-Z0-9._-]*)(:[0-9]{1,5})?"
_REPOSITORY = "(/[a-z0-9][a-z0-9._-]*)*"
_VERSION = "(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"

# Every place in the container where something is mounted, as one CEL list.
_MOUNT_PATHS = """
[(has(self.source) ? [self.source.path] : []) + (has(self.outputs) ? [self.outputs.path] : [])
+ (has(self.files) ? self.files.map(file, file.mountPath) : [])
+ (has(self.inputs) ? self.inputs.map(input, input.mountPath) : [])]
.all(paths, paths.all(path, paths.exists_one(other, other == path || other.startsWith(path + '/'))))
"""


class ImagePullPolicy(StrEnum):
    """When a device fetches the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class SecretReference(Model):
    """A Secret in the same namespace."""

    name: ObjectName
    """The Secret's name."""


class EdgeAppSpec(Model):
    """What to run."""

    model_config = rules(
        Rule(
            " ".join(_MOUNT_PATHS.split()),
            "source, outputs, files and inputs must be mounted at different paths, none inside another",
        )
    )

    image: Annotated[str, Field(min_length=1, max_length=512, pattern=f"^{_REGISTRY}{_REPOSITORY}{_VERSION}$")]
    """The container image."""
    image_pull_policy: ImagePullPolicy | None = None
    """When a device fetches the image; as in a pod, Always for the tag latest and IfNotPresent otherwise."""
    image_pull_secrets: Annotated[tuple[SecretReference, ...], Field(max_length=16), keyed_by("name")] = ()
    """Secrets for fetching the image."""
    source: Source | None = None
    """The app's own files, mounted read-only; none unless given."""
    command: Arguments = ()
    """What is started; the image's entry point when empty."""
    args: Arguments = ()
    """The command's arguments; the image's when both command and args are empty."""
    env: Env = ()
    """Environment variables."""
    env_from: EnvSources = ()
    """ConfigMaps and Secrets whose keys become environment variables."""
    files: FileMounts = ()
    """Files from ConfigMaps and Secrets, read-only."""
    inputs: Inputs = ()
    """Data folders that the device must offer, read-only."""
    outputs: Outputs | None = None
    """The folder whose files are the results; the app has none unless given."""
    resources: Resources = Resources()
    """What the container asks of a device."""
    requires: Requirements = Requirements()
    """What the app needs of a device."""
    service_account_name: OptionalObjectName = ""
    """The ServiceAccount of the job's pods; the namespace's default when empty."""
    tolerations: Tolerations = ()
    """Taints of devices that the job's pods stand."""
    runtime_class_name: OptionalObjectName = ""
    """The RuntimeClass of the job's pods; the cluster's default when empty."""
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    """How long the app has to end after SIGTERM; 30 unless given."""
    security_context: SecurityContext = SecurityContext()
    """As whom the app runs."""


class EdgeAppStatus(Model):
    """Whether the app can run."""

    observed_generation: ObservedGeneration = -1
    """The metadata.generation that this was found for; -1 before anyone has looked."""
    conditions: Conditions = ()
    """Ready: jobs can use it."""


class EdgeApp(Model):
    """What to run on devices: EdgeJobs name it."""

    api_version: Literal["edgewise.dev/v1alpha1"] = API_VERSION
    kind: Literal["EdgeApp"] = "EdgeApp"
    metadata: Metadata = Metadata()
    spec: EdgeAppSpec
    """What to run."""
    status: EdgeAppStatus = EdgeAppStatus()
    """Whether the app can run."""


EDGE_APP: Final = Kind(
    model=EdgeApp,
    plural="edgeapps",
    short_name="ea",
    namespaced=True,
    rules=(SHORT_NAME,),
    columns=(
        Column("Image", ".spec.image"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
