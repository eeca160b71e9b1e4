"""The kinds of edgewise.dev/v1alpha1 as pydantic models.

Owns what users write and read in the Kubernetes API: names, types, bounds, defaults and rules. Never talks to it.
"""

from edgewise.api.conditions import Condition, ConditionStatus
from edgewise.api.edge_app import EDGE_APP, EdgeApp, EdgeAppSpec, EdgeAppStatus, ImagePullPolicy, SecretReference
from edgewise.api.edge_job import (
    EDGE_JOB,
    AppReference,
    Disconnect,
    EdgeJob,
    EdgeJobSpec,
    PlacementSpec,
    Retention,
    Retry,
)
from edgewise.api.edge_node import (
    EDGE_NODE,
    EdgeNode,
    EdgeNodeSpec,
    EdgeNodeStatus,
    NodeBenchmark,
    NodeMetrics,
    NodeSpool,
    OfferedData,
    OfferedDevice,
    Thermal,
)
from edgewise.api.environment import (
    ContainerResource,
    EnvFrom,
    EnvObject,
    EnvVar,
    KeySelector,
    PodField,
    ValueFrom,
)
from edgewise.api.job_status import (
    Attempt,
    Candidate,
    EdgeJobStatus,
    Outcome,
    Phase,
    PlacementStatus,
    RefusedFile,
    RejectedNode,
    ResultFile,
    Results,
    ResultsState,
)
from edgewise.api.kind import Column, Kind
from edgewise.api.metadata import API_VERSION, GROUP, NAME_LENGTH, VERSION, Metadata
from edgewise.api.mounts import (
    Bundle,
    Collect,
    ConfigMapFiles,
    FileMount,
    Input,
    KeyToPath,
    Outputs,
    SecretFiles,
    Source,
)
from edgewise.api.quantities import Resources
from edgewise.api.schema import merge_patch, spec_body, status_body
from edgewise.api.score import Factors
from edgewise.api.security import SecurityContext, SELinuxOptions
from edgewise.api.selection import (
    NodeRequirement,
    RequiredDevice,
    Requirements,
    SelectorOperator,
    TaintEffect,
    Toleration,
    TolerationOperator,
)

KINDS = (EDGE_NODE, EDGE_APP, EDGE_JOB)
"""Every kind, in the order in which they are documented."""

__all__ = [
    "API_VERSION",
    "EDGE_APP",
    "EDGE_JOB",
    "EDGE_NODE",
    "GROUP",
    "KINDS",
    "NAME_LENGTH",
    "VERSION",
    "AppReference",
    "Attempt",
    "Bundle",
    "Candidate",
    "Collect",
    "Column",
    "Condition",
    "ConditionStatus",
    "ConfigMapFiles",
    "ContainerResource",
    "Disconnect",
    "EdgeApp",
    "EdgeAppSpec",
    "EdgeAppStatus",
    "EdgeJob",
    "EdgeJobSpec",
    "EdgeJobStatus",
    "EdgeNode",
    "EdgeNodeSpec",
    "EdgeNodeStatus",
    "EnvFrom",
    "EnvObject",
    "EnvVar",
    "Factors",
    "FileMount",
    "ImagePullPolicy",
    "Input",
    "KeySelector",
    "KeyToPath",
    "Kind",
    "Metadata",
    "NodeBenchmark",
    "NodeMetrics",
    "NodeRequirement",
    "NodeSpool",
    "OfferedData",
    "OfferedDevice",
    "Outcome",
    "Outputs",
    "Phase",
    "PlacementSpec",
    "PlacementStatus",
    "PodField",
    "RefusedFile",
    "RejectedNode",
    "RequiredDevice",
    "Requirements",
    "Resources",
    "ResultFile",
    "Results",
    "ResultsState",
    "Retention",
    "Retry",
    "SELinuxOptions",
    "SecretFiles",
    "SecretReference",
    "SecurityContext",
    "SelectorOperator",
    "Source",
    "TaintEffect",
    "Thermal",
    "Toleration",
    "TolerationOperator",
    "ValueFrom",
    "merge_patch",
    "spec_body",
    "status_body",
]
