"""What is mounted into the app's container: its source, files from ConfigMaps and Secrets, input data, outputs.

Owns where things are mounted; never their content.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, WithJsonSchema

from edgewise.api.quantities import QUANTITY_SCHEMA, Quantity
from edgewise.api.schema import Model, Rule, checked, exactly_one, keyed_by, rules
from edgewise.api.text import AbsolutePath, DataKey, DnsLabel, ObjectName, RelativePath

FileMode = Annotated[int, Field(ge=0, le=0o777)]
"""Permission bits, in decimal: 420 is 0644."""


class KeyToPath(Model):
    """One key, and the file it becomes."""

    key: DataKey
    """The key in the ConfigMap or Secret."""
    path: RelativePath
    """The file, relative to the mount; without `..`."""
    mode: FileMode | None = None
    """The file's permission bits, in decimal; the default mode unless given."""


KeysToPaths = Annotated[tuple[KeyToPath, ...], Field(max_length=100)]
"""The keys to mount; all of them when empty."""


class ConfigMapFiles(Model):
    """The files of a ConfigMap in the same namespace."""

    name: ObjectName
    """The ConfigMap's name."""
    items: KeysToPaths = ()
    """The keys to mount, and where; all of them when empty."""
    optional: bool = False
    """Whether the ConfigMap or its keys may be missing; otherwise the pod waits for them."""
    default_mode: FileMode | None = None
    """The files' permission bits, in decimal; 420 (0644) unless given."""


class SecretFiles(Model):
    """The files of a Secret in the same namespace."""

    secret_name: ObjectName
    """The Secret's name."""
    items: KeysToPaths = ()
    """The keys to mount, and where; all of them when empty."""
    optional: bool = False
    """Whether the Secret or its keys may be missing; otherwise the pod waits for them."""
    default_mode: FileMode | None = None
    """The files' permission bits, in decimal; 420 (0644) unless given."""


class FileMount(Model):
    """Files that the app finds in its container, read-only."""

    model_config = rules(Rule(exactly_one("configMap", "secret"), "give exactly one of configMap and secret"))

    name: DnsLabel
    """Tells this mount from the others."""
    mount_path: AbsolutePath
    """Where they are mounted: an absolute path without `..`."""
    config_map: ConfigMapFiles | None = None
    """From a ConfigMap."""
    secret: SecretFiles | None = None
    """From a Secret."""


class Bundle(Model):
    """A folder that was stored in the gateway."""

    digest: Annotated[str, Field(max_length=71, pattern="^sha256:[0-9a-f]{64}$")]
    """What the gateway answered when the folder was stored."""


class Source(Model):
    """The app's own files, mounted read-only over any base image."""

    model_config = rules(Rule(exactly_one("configMap", "bundle"), "give exactly one of configMap and bundle"))

    config_map: ConfigMapFiles | None = None
    """The files of a ConfigMap; up to 1 MiB."""
    bundle: Bundle | None = None
    """A larger folder, stored in the gateway and fetched once per device."""
    path: AbsolutePath = "/app"
    """Where the files are mounted: an absolute path without `..`."""


class Input(Model):
    """A data folder that a device offers (its EdgeNode's `data`), mounted read-only."""

    name: DnsLabel
    """The folder's name in the EdgeNode; devices without it are not chosen."""
    mount_path: AbsolutePath
    """Where it is mounted: an absolute path without `..`."""


class Collect(StrEnum):
    """When output files are sent home."""

    AT_END = "AtEnd"
    """all of them, once the app has ended"""
    ON_CLOSE = "OnClose"
    """each as soon as the app has closed it"""


OutputSize = Annotated[
    Quantity,
    WithJsonSchema({**QUANTITY_SCHEMA, "minimum": 1}),
    checked(
        Rule(
            "quantity(string(self)).isGreaterThan(quantity('0')) "
            "&& !quantity(string(self)).isGreaterThan(quantity('1Pi'))",
            "sizeLimit must be more than 0 and at most 1Pi",
        )
    ),
]


class Outputs(Model):
    """The folder whose files are the app's results."""

    model_config = rules(Rule("self.minFiles <= self.maxFiles", "minFiles must not exceed maxFiles", field="minFiles"))

    path: AbsolutePath = "/outputs"
    """Where the folder is mounted; also in the environment as EDGEWISE_OUTPUTS."""
    include: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^/\x00-\x1f][^\x00-\x1f]*$")], ...],
        Field(min_length=1, max_length=64),
    ] = ("*.csv",)
    """Which files come home: shell patterns, relative to the folder."""
    max_files: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many files come home at most; more are refused one by one."""
    min_files: Annotated[int, Field(ge=0, le=100_000)] = 1
    """An attempt that succeeds with fewer files fails the job (NoOutputs); 0 makes outputs optional."""
    size_limit: OutputSize = "1Gi"
    """How large the folder may grow; the job is ended when it grows larger (OutputsTooLarge)."""
    collect: Collect = Collect.AT_END
    """When the files are sent home: AtEnd, or OnClose for each as soon as it is closed."""


FileMounts = Annotated[tuple[FileMount, ...], Field(max_length=16), keyed_by("name")]
Inputs = Annotated[tuple[Input, ...], Field(max_length=16), keyed_by("name")]
