"""What all kinds share in how they are declared: the base model, CEL rules, list types, and writing back to JSON.

Owns the link between a pydantic declaration and what crd.py makes of it; never knows a kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

LARGEST_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader holds exactly; the upper bound of byte counts."""


def api_name(attribute: str) -> str:
    """The API's name of an attribute: `pod_uid` is podUID, `bytes_` is bytes."""
    name = to_camel(attribute.rstrip("_"))
    return f"{name[:-3]}UID" if name.endswith("Uid") else name


class Model(BaseModel):
    """A part of a kind. Immutable; reads camelCase (and its own snake_case), ignores fields it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=api_name,
        validate_by_alias=True,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule that the API server checks. The message says what to do; `field` is the field to blame."""

    cel: str
    message: str
    field: str = ""

    def to_schema(self) -> dict[str, JsonValue]:
        """One entry of x-kubernetes-validations."""
        entry: dict[str, JsonValue] = {"rule": self.cel, "message": self.message}
        return {**entry, "fieldPath": f".{self.field}"} if self.field else entry


def rules(*checks: Rule) -> ConfigDict:
    """The `model_config` of a model that the API server holds to `checks`."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": [check.to_schema() for check in checks]})


def checked(*checks: Rule) -> FieldInfo:
    """An annotation: the API server holds this field to `checks`."""
    return _extra({"x-kubernetes-validations": [check.to_schema() for check in checks]})


def keyed_by(key: str) -> FieldInfo:
    """An annotation: a list whose items are told apart by `key`, which no two share."""
    return _extra({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]})


def unique() -> FieldInfo:
    """An annotation: a list without repeated items."""
    return _extra({"x-kubernetes-list-type": "set"})


def _extra(schema: dict[str, Any]) -> FieldInfo:
    field: FieldInfo = Field(json_schema_extra=schema)
    return field


def exactly_one(*attributes: str) -> str:
    """The CEL expression that holds when exactly one of these optional fields is given."""
    given = ", ".join(f"has(self.{attribute})" for attribute in attributes)
    return f"[{given}].exists_one(given, given)"


def status_body(status: Model) -> dict[str, Any]:
    """A status as the plain JSON object that the API holds: camelCase, without fields that are None."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def spec_body(spec: Model) -> dict[str, Any]:
    """A spec as plain JSON with exactly the fields that were given. None is kept: in a spec it has a meaning."""
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def merge_patch(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns `current` into `wanted`; empty when they are equal.

    Lists are replaced whole. `wanted` must not hold None: a merge patch can't set it.
    """
    patch: dict[str, Any] = {name: None for name in current if name not in wanted}
    for name, value in wanted.items():
        old = current.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = merge_patch(old, value)
            if inner:
                patch[name] = inner
        elif name not in current or old != value:
            patch[name] = value
    return patch
