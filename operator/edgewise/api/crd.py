"""Turns the models of the kinds into CustomResourceDefinitions of apiextensions.k8s.io/v1.

Owns the translation of a pydantic declaration into a structural schema. It refuses, by raising `NotStructural`, what
such a schema can't say and what would make the API server's checks of it unbounded; it never guesses.
"""

from collections.abc import Mapping
from typing import Any, Final

from edgewise.api.kind import Column, Kind
from edgewise.api.metadata import GROUP, VERSION

Schema = dict[str, Any]

_COPIED: Final[tuple[str, ...]] = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "nullable",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
"""What a structural schema says with the same word and meaning as pydantic, in the order of writing."""

_TRANSLATED: Final = {"$ref", "anyOf", "const", "items", "properties", "additionalProperties", "title"}

_BOUNDS: Final = {
    "string": ("maxLength",),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "array": ("maxItems",),
    "object": ("maxProperties",),
    "boolean": (),
}
"""What a value of each type must be bounded by; an object with named properties is bounded by them."""


class NotStructural(ValueError):
    """A declaration that can't be said in a structural schema. The message names the field and what to do."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def custom_resource_definition(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind. Raises `NotStructural`."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "edgewise", "app.kubernetes.io/part-of": "edgewise"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["edgewise"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def _column(column: Column) -> Schema:
    described = {"name": column.title, "type": column.type, "jsonPath": column.path}
    return {**described, "priority": 1} if column.wide else described


def _root(kind: Kind) -> Schema:
    declared = kind.model.model_json_schema(by_alias=True)
    definitions = declared.get("$defs", {})
    spec = structural(declared["properties"]["spec"], definitions, f"{kind.name}.spec")
    status = _without_defaults(structural(declared["properties"]["status"], definitions, f"{kind.name}.status"))
    # A status says from the start that nobody has looked: without this, kstatus takes a new object for a finished one.
    status["properties"]["observedGeneration"]["default"] = -1
    root: Schema = {
        "description": _paragraph(declared["description"]),
        "type": "object",
        "required": ["spec"] if "spec" in declared.get("required", ()) else [],
        "x-kubernetes-validations": [rule.to_schema() for rule in kind.rules],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": kind.name},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {"description": status.pop("description"), "default": {}, **status},
        },
    }
    return {word: value for word, value in root.items() if value != []}


def structural(declared: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    """The structural schema of one declaration, with references replaced by what they refer to.

    `path` names the declaration in errors. Raises `NotStructural`.
    """
    schema = _resolved(declared, definitions, path)
    unknown = sorted(set(schema) - set(_COPIED) - _TRANSLATED)
    if unknown:
        raise NotStructural(path, f"a structural schema has no {', '.join(unknown)}: declare it another way")
    if "const" in schema:
        schema["enum"] = [schema["const"]]
    result: Schema = {word: schema[word] for word in _COPIED if word in schema}
    if "description" in result:
        result["description"] = _paragraph(result["description"])
    if result.get("type") == "integer":
        result["format"] = "int64"
    if "items" in schema:
        result["items"] = structural(schema["items"], definitions, f"{path}[]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        result["additionalProperties"] = structural(schema["additionalProperties"], definitions, f"{path}{{}}")
    if "properties" in schema:
        result["properties"] = {
            name: structural(inner, definitions, f"{path}.{name}") for name, inner in schema["properties"].items()
        }
    _require_bounds(result, path)
    if "default" in result:
        result["default"] = _without_empties(result["default"])
        if result["default"] in (None, "", [], {}):
            del result["default"]
    return result


def _resolved(declared: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    """`declared` without references, and with `X | None` said as a nullable X."""
    schema = dict(declared)
    if "$ref" in schema:
        target = definitions[schema.pop("$ref").removeprefix("#/$defs/")]
        return {**_resolved(target, definitions, path), **schema}
    if "anyOf" in schema:
        choices = schema.pop("anyOf")
        others = [choice for choice in choices if choice != {"type": "null"}]
        if len(others) != 1 or len(choices) != 2:
            raise NotStructural(path, "only a union of one type and None can be said: make it fields of an object")
        return {**_resolved(others[0], definitions, path), **schema, "nullable": True}
    return schema


def _require_bounds(schema: Schema, path: str) -> None:
    """Every value is bounded, so that the cost of checking an object is."""
    if schema.get("x-kubernetes-int-or-string"):
        needed: tuple[str, ...] = ("minimum", "maxLength")
    elif schema.get("type") not in _BOUNDS:
        found, known = schema.get("type", "any"), ", ".join(_BOUNDS)
        raise NotStructural(path, f"the type {found} can't be said: choose one of {known}")
    elif "enum" in schema or ("format" in schema and schema["type"] == "string") or "properties" in schema:
        needed = ()
    else:
        needed = _BOUNDS[schema["type"]]
    missing = [word for word in needed if word not in schema]
    if missing:
        raise NotStructural(path, f"it needs {' and '.join(missing)}: give the field its bounds")
    if schema.get("type") == "array" and "items" not in schema:
        raise NotStructural(path, "a tuple of fixed length can't be said: use tuple[X, ...] or an object")
    if schema.get("type") == "object" and not {"properties", "additionalProperties"} & set(schema):
        raise NotStructural(path, "an object of unknown content can't be said: declare its fields")


def _without_empties(default: Any) -> Any:
    """`default` without the fields that are empty: absence says the same.

    The other fields stay, though their own defaults repeat them: the API server checks a default by the rules without
    first filling it in.
    """
    if not isinstance(default, Mapping):
        return default
    filled = {name: _without_empties(value) for name, value in default.items()}
    return {name: value for name, value in filled.items() if value not in (None, "", [], {})}


def _without_defaults(schema: Schema) -> Schema:
    """`schema` with no defaults anywhere: a status holds only what someone has found."""
    result = {word: value for word, value in schema.items() if word != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(inner) for name, inner in result["properties"].items()}
    for word in ("items", "additionalProperties"):
        if word in result:
            result[word] = _without_defaults(result[word])
    return result


def _paragraph(docstring: str) -> str:
    return " ".join(docstring.split())
