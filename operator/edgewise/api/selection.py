"""What a job may ask of the device it runs on: labels, hardware, taints it stands.

Owns the notation; domain/eligibility decides by it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from edgewise.api.schema import Model, Rule, checked, keyed_by, rules, unique
from edgewise.api.text import DnsLabel, LabelKey, LabelValue

NodeSelector = Annotated[
    Mapping[str, LabelValue],
    Field(max_length=32),
    checked(Rule("self.all(key, 1 <= size(key) && size(key) <= 317)", "a label's key has 1 to 317 characters")),
]
"""Labels that a device must have, each with exactly this value."""


class SelectorOperator(StrEnum):
    """How a device's label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class NodeRequirement(Model):
    """What a label of the device must be, as in a pod's node affinity."""

    model_config = rules(
        Rule(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
            "In and NotIn need at least one value",
            field="values",
        ),
        Rule(
            "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
            "Exists and DoesNotExist take no values",
            field="values",
        ),
        Rule(
            "!(self.operator in ['Gt', 'Lt']) || (has(self.values) && size(self.values) == 1 "
            "&& self.values[0].matches('^-?[0-9]{1,18}$'))",
            "Gt and Lt take exactly one value, a whole number in quotes",
            field="values",
        ),
    )

    key: LabelKey
    """The label's key."""
    operator: SelectorOperator
    """How the label is compared with the values."""
    values: Annotated[
        tuple[Annotated[str, Field(max_length=63, pattern="^-?([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")], ...],
        Field(max_length=64),
    ] = ()
    """What it is compared with."""


Affinity = Annotated[tuple[NodeRequirement, ...], Field(max_length=32)]
"""Requirements that a device must all meet."""


class RequiredDevice(Model):
    """Hardware that a device must offer (its EdgeNode's `devices`)."""

    name: DnsLabel
    """Its name in the EdgeNode."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """How many of it the job uses alone."""


class Requirements(Model):
    """What the app needs of a device."""

    architectures: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=32, pattern="^[a-z0-9]+$")], ...],
        Field(max_length=16),
        unique(),
    ] = ()
    """The processor architectures its image is built for, such as amd64 and arm64; any when empty."""
    devices: Annotated[tuple[RequiredDevice, ...], Field(max_length=16), keyed_by("name")] = ()
    """Hardware it uses, such as a camera."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels that a device must have."""


class TolerationOperator(StrEnum):
    """How a taint is matched."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that don't tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """A taint that the job's pods stand, as in a pod."""

    model_config = rules(
        Rule(
            "has(self.key) && size(self.key) > 0 || has(self.operator) && self.operator == 'Exists'",
            "an empty key needs the operator Exists: it tolerates every taint",
            field="operator",
        ),
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || size(self.value) == 0",
            "the operator Exists takes no value",
            field="value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            "tolerationSeconds needs the effect NoExecute",
            field="effect",
        ),
    )

    key: Annotated[
        str,
        Field(
            max_length=317, pattern="^(([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
        ),
    ] = ""
    """The taint's key; every key when empty."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Equal compares the value, Exists does not."""
    value: LabelValue = ""
    """The taint's value."""
    effect: TaintEffect | None = None
    """The taint's effect; every effect unless given."""
    toleration_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long a running pod stands a NoExecute taint; without end unless given."""


Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=32)]
