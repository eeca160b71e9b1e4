"""What becomes of a declaration: its structural schema, and what is refused because no such schema can say it."""

from typing import Annotated, Any

import pytest
from edgewise.api import KINDS, Kind
from edgewise.api.crd import NotStructural, custom_resource_definition, structural
from edgewise.api.kind import Column
from edgewise.api.schema import Model, Rule, keyed_by, rules, unique
from pydantic import Field, create_model

Name = Annotated[str, Field(max_length=10)]


def schema_of(annotation: Any) -> dict[str, Any]:
    """The structural schema of a field `x` with this annotation."""
    model = create_model("Holder", __base__=Model, x=(annotation, ...))
    declared = model.model_json_schema(by_alias=True)
    return structural(declared["properties"]["x"], declared.get("$defs", {}), "x")


class Part(Model):
    """A part."""

    model_config = rules(Rule("self.low < self.high", "low must be below high", field="low"))

    low: Annotated[int, Field(ge=0, le=8)] = 1
    """The low end,
    said on two lines."""
    high: Annotated[int, Field(ge=1, le=9)] = 2


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Name, {"type": "string", "maxLength": 10}),
        (Name | None, {"type": "string", "maxLength": 10, "nullable": True}),
        (bool, {"type": "boolean"}),
        (
            Annotated[int, Field(ge=0, le=9)],
            {"type": "integer", "minimum": 0, "maximum": 9, "format": "int64"},
        ),
        (
            Annotated[tuple[Name, ...], Field(max_length=2), unique()],
            {
                "type": "array",
                "maxItems": 2,
                "x-kubernetes-list-type": "set",
                "items": {"type": "string", "maxLength": 10},
            },
        ),
        (
            Annotated[dict[str, Name], Field(max_length=3)],
            {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "string", "maxLength": 10}},
        ),
        (
            Part,
            {
                "description": "A part.",
                "type": "object",
                "x-kubernetes-validations": [
                    {"rule": "self.low < self.high", "message": "low must be below high", "fieldPath": ".low"}
                ],
                "properties": {
                    "low": {
                        "description": "The low end, said on two lines.",
                        "type": "integer",
                        "default": 1,
                        "minimum": 0,
                        "maximum": 8,
                        "format": "int64",
                    },
                    "high": {"type": "integer", "default": 2, "minimum": 1, "maximum": 9, "format": "int64"},
                },
            },
        ),
    ],
    ids=["string", "nullable", "boolean", "integer", "set", "mapping", "object"],
)
def test_says_the_declaration(annotation: Any, schema: dict[str, Any]) -> None:
    assert schema_of(annotation) == schema


def test_lists_keyed_by_a_field() -> None:
    schema = schema_of(Annotated[tuple[Part, ...], Field(max_length=2), keyed_by("low")])
    assert (schema["x-kubernetes-list-type"], schema["x-kubernetes-list-map-keys"]) == ("map", ["low"])


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (str, "x: it needs maxLength"),
        (int, "x: it needs minimum and maximum"),
        (Annotated[float, Field(ge=0)], "x: it needs maximum"),
        (tuple[Name, ...], "x: it needs maxItems"),
        (dict[str, Name], "x: it needs maxProperties"),
        (Annotated[tuple[str, ...], Field(max_length=2)], r"x\[\]: it needs maxLength"),
        (tuple[Name, Name], "x: a structural schema has no prefixItems"),
        (Name | bool, "x: only a union of one type and None"),
        (Name | bool | None, "x: only a union of one type and None"),
        (Annotated[int, Field(gt=0, le=9)], "x: a structural schema has no exclusiveMinimum"),
        (Annotated[int, Field(ge=0, le=9, multiple_of=3)], "x: a structural schema has no multipleOf"),
        (Any, "x: the type any can't be said"),
        (None, "x: the type null can't be said"),
        (dict[str, Any], "x: the type any can't be said|needs maxProperties|unknown content"),
    ],
)
def test_refuses_what_can_not_be_said(annotation: Any, problem: str) -> None:
    with pytest.raises(NotStructural, match=problem):
        schema_of(annotation)


def test_names_the_field_by_its_whole_path() -> None:
    class Status(Model):
        """Status."""

        observed_generation: Annotated[int, Field(ge=-1, le=9)] = -1

    class Inner(Model):
        """Inner."""

        too_long: str = ""

    class Gadget(Model):
        """A gadget."""

        spec: Inner
        status: Status = Status()

    with pytest.raises(NotStructural, match=r"^Gadget\.spec\.tooLong: it needs maxLength"):
        custom_resource_definition(Kind(Gadget, "gadgets", "ga", True, ()))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_is_described(kind: Kind) -> None:
    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, inner in schema.get("properties", {}).items():
            below = f"{path}.{name}"
            found += [] if inner.get("description") or name == "metadata" else [below]
            found += undescribed(inner, below) + undescribed(inner.get("items", {}), f"{below}[]")
        return found

    version = custom_resource_definition(kind)["spec"]["versions"][0]
    assert undescribed(version["schema"]["openAPIV3Schema"], kind.name) == []


def test_names_scope_and_columns() -> None:
    class Spec(Model):
        """Spec."""

        observed_generation: Annotated[int, Field(ge=-1, le=9)] = -1

    class Gadget(Model):
        """A gadget."""

        spec: Spec = Spec()
        status: Spec = Spec()

    columns = (Column("Phase", ".status.phase"), Column("Size", ".spec.size", "integer", wide=True))
    definition = custom_resource_definition(Kind(Gadget, "gadgets", "ga", False, columns))
    assert definition["metadata"]["name"] == "gadgets.edgewise.dev"
    assert definition["spec"]["scope"] == "Cluster"
    assert definition["spec"]["names"] == {
        "kind": "Gadget",
        "listKind": "GadgetList",
        "plural": "gadgets",
        "singular": "gadget",
        "shortNames": ["ga"],
        "categories": ["edgewise"],
    }
    version = definition["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"] == [
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
    ]
