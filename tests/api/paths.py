"""Paths into a kind and its objects: `spec.env[].name` is the name of an item, `spec.limits{}` a value of a mapping.

Owns finding and changing what is at such a path, in a schema and in an object.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from tests.api.values import MISSING

BOUNDS: Final = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")
KEYWORDS: Final = (*BOUNDS, "pattern", "enum")


def constraints(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every constraint of a schema: the path it is on, its name (for a rule, its message) and its value."""
    yield from ((path, keyword, schema[keyword]) for keyword in KEYWORDS if keyword in schema)
    if schema.get("format") == "date-time":
        yield path, "format", "date-time"
    if schema.get("x-kubernetes-list-type") in ("map", "set"):
        yield path, "unique", True
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule["message"], rule["rule"]
    for name, inner in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        if name in schema.get("required", ()):
            yield below, "required", True
        yield from constraints(inner, below)
    if "items" in schema:
        yield from constraints(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from constraints(schema["additionalProperties"], f"{path}{{}}")


def changed(manifest: dict[str, Any], path: str, value: Any) -> tuple[dict[str, Any], str] | None:
    """A copy of an object with `value` at `path`, and the path as the API server would write it.

    Of lists and mappings, it is the first item in which the rest of the path exists. None when there is none.
    """
    steps = re.findall(r"[^.\[\]{}]+|\[\]|\{\}", path)
    copy = deepcopy(manifest)
    place = _place(copy, steps)
    if place is None:
        return None
    container, key, written = place
    if value is MISSING:
        del container[key]
    else:
        container[key] = deepcopy(value)
    return copy, written


def _place(value: Any, steps: list[str], written: str = "") -> tuple[Any, Any, str] | None:
    step, *rest = steps
    keys: list[Any]
    if step == "[]":
        keys = list(range(len(value))) if isinstance(value, list) else []
    elif step == "{}":
        keys = list(value) if isinstance(value, dict) else []
    else:
        keys = [step] if isinstance(value, dict) and step in value else []
    for key in keys:
        here = f"{written}[{key}]" if step == "[]" else f"{written}.{key}".removeprefix(".")
        if not rest:
            return value, key, here
        if (found := _place(value[key], rest, here)) is not None:
            return found
    return None
