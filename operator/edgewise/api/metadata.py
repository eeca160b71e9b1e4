"""The part of an object that Kubernetes itself owns, as far as Edgewise reads it.

Owns no schema: the API server has its own for metadata.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import Field

from edgewise.api.schema import Model, Rule
from edgewise.api.text import Timestamp

GROUP: Final = "edgewise.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "edgewise.dev/v1alpha1"

NAME_LENGTH: Final = 52
"""The longest name of an EdgeApp or EdgeJob: a pod's name adds a dash, five characters, a dash and the attempt."""

SHORT_NAME: Final = Rule(
    f"size(self.metadata.name) <= {NAME_LENGTH}",
    f"the name must have at most {NAME_LENGTH} characters, so that a pod's name can be made from it",
)


class Owner(Model):
    """Who an object belongs to."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(Model):
    """Standard object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    owner_references: tuple[Owner, ...] = ()

    def controller(self, kind: str) -> str:
        """The UID of the object of `kind` that controls this one; empty where none does."""
        return self.controller_of(kind).uid

    def controller_of(self, kind: str) -> Owner:
        """The object of `kind` that controls this one; one without a name where none does."""
        return next((one for one in self.owner_references if one.controller and one.kind == kind), Owner())
