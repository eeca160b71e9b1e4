"""Conditions: what is true of an object, in the form that kstatus, Argo CD and Flux understand.

Owns their shape; never when one holds.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from edgewise.api.schema import LARGEST_INTEGER, Model, keyed_by
from edgewise.api.text import LabelKey, Message, Timestamp

ObservedGeneration = Annotated[int, Field(ge=-1, le=LARGEST_INTEGER)]
"""The metadata.generation that a status was made from; -1 says that nobody has looked yet."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One thing that is true of the object, or not, or unknown."""

    type: LabelKey
    """What it is about, in one CamelCase word."""
    status: ConditionStatus
    """Whether it holds."""
    observed_generation: ObservedGeneration = -1
    """The metadata.generation that this was found for."""
    last_transition_time: Timestamp
    """When the status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Z][A-Za-z0-9]*$")]
    """Why, in one CamelCase word for programs."""
    message: Message = ""
    """Why, in a sentence for people that says what to do."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16), keyed_by("type")]
"""At most one condition of each type."""
