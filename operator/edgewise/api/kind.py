"""What a kind is to the API server besides its fields: its names, its scope, its columns, the rules of its whole.

Owns the description; crd.py renders it.
"""

from dataclasses import dataclass, field
from typing import Literal

from edgewise.api.schema import Model, Rule


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; a wide one is shown with `-o wide` only."""

    title: str
    path: str
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of the group edgewise.dev. `rules` are checked on the whole object."""

    model: type[Model]
    plural: str
    short_name: str
    namespaced: bool
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = field(default=())

    @property
    def name(self) -> str:
        """The kind's name, such as EdgeJob."""
        return self.model.__name__
