"""The app's environment: variables with values of their own, or from the pod, ConfigMaps and Secrets.

Owns the same notation that a pod has; never resolves a value.
"""

from typing import Annotated

from pydantic import Field

from edgewise.api.quantities import Quantity
from edgewise.api.schema import Model, Rule, exactly_one, keyed_by, rules
from edgewise.api.text import DataKey, ObjectName

_POD_FIELDS = (
    r"metadata\.(name|namespace|uid)",
    r"metadata\.(labels|annotations)\['[^']{1,317}'\]",
    r"spec\.(nodeName|serviceAccountName)",
    r"status\.(hostIP|hostIPs|podIP|podIPs)",
)


class PodField(Model):
    """A field of the pod."""

    field_path: Annotated[str, Field(max_length=341, pattern=f"^({'|'.join(_POD_FIELDS)})$")]
    """Such as metadata.name, metadata.labels['app'], spec.nodeName or status.podIP."""


class ContainerResource(Model):
    """A request or a limit of the app's container."""

    resource: Annotated[
        str,
        Field(max_length=128, pattern="^(requests|limits)\\.(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+)$"),
    ]
    """Such as limits.memory or requests.cpu."""
    divisor: Quantity | None = None
    """What the amount is divided by, rounded up; 1 unless given."""


class KeySelector(Model):
    """A key of a ConfigMap or a Secret in the same namespace."""

    name: ObjectName
    """The name of the ConfigMap or Secret."""
    key: DataKey
    """The key in it."""
    optional: bool = False
    """Whether the variable is left out when the object or key is missing; otherwise the pod waits for it."""


class ValueFrom(Model):
    """Where a variable's value comes from."""

    model_config = rules(
        Rule(
            exactly_one("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"),
            "give exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef",
        )
    )

    field_ref: PodField | None = None
    """From a field of the pod."""
    resource_field_ref: ContainerResource | None = None
    """From a request or a limit of the app's container."""
    config_map_key_ref: KeySelector | None = None
    """From a key of a ConfigMap."""
    secret_key_ref: KeySelector | None = None
    """From a key of a Secret."""


class EnvVar(Model):
    """An environment variable."""

    model_config = rules(
        Rule(exactly_one("value", "valueFrom"), "give exactly one of value and valueFrom"),
        Rule(
            "!self.name.startsWith('EDGEWISE_')",
            "names that begin with EDGEWISE_ are set by Edgewise: choose another name",
            field="name",
        ),
    )

    name: Annotated[str, Field(max_length=253, pattern="^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    """The variable's name."""
    value: Annotated[str, Field(max_length=8192)] | None = None
    """Its value; $(OTHER) is replaced as in a pod."""
    value_from: ValueFrom | None = None
    """Where its value comes from."""


class EnvObject(Model):
    """A ConfigMap or Secret in the same namespace, each of whose keys becomes a variable."""

    name: ObjectName
    """The name of the ConfigMap or Secret."""
    optional: bool = False
    """Whether it may be missing; otherwise the pod waits for it."""


class EnvFrom(Model):
    """Variables from all keys of a ConfigMap or Secret."""

    model_config = rules(
        Rule(exactly_one("configMapRef", "secretRef"), "give exactly one of configMapRef and secretRef")
    )

    prefix: Annotated[str, Field(max_length=128, pattern="^([-._a-zA-Z][-._a-zA-Z0-9]*)?$")] = ""
    """Put before each key."""
    config_map_ref: EnvObject | None = None
    """From a ConfigMap."""
    secret_ref: EnvObject | None = None
    """From a Secret."""


Env = Annotated[tuple[EnvVar, ...], Field(max_length=100), keyed_by("name")]
"""Variables, each name once."""

EnvSources = Annotated[tuple[EnvFrom, ...], Field(max_length=32)]
"""ConfigMaps and Secrets whose keys become variables; of equal names the last wins, and `env` wins over all."""
