"""What a field accepts and what it refuses, said once for each sort of field.

A table of fields (node_fields, app_fields, job_fields) gives each path of a kind one `Field`: values that the API
server must accept, and for each constraint values that it must refuse for exactly that reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MISSING: Final = object()
"""The value of a field that is left out."""


@dataclass(frozen=True)
class Field:
    """Values of one field.

    `bad` has a value (or a tuple of values) for each constraint: a keyword of the schema, `required`, `unique`, or
    the beginning of a CEL rule's message.
    """

    good: tuple[Any, ...] = ()
    bad: Mapping[str, Any] = field(default_factory=dict)

    def refusals(self) -> list[tuple[str, Any]]:
        """Each refused value, with the constraint it breaks."""
        return [
            (constraint, value)
            for constraint, values in self.bad.items()
            for value in (values if isinstance(values, tuple) else (values,))
        ]


def also(base: Field, good: tuple[Any, ...] = (), **bad: Any) -> Field:
    """`base` with more values."""
    return Field((*base.good, *good), {**base.bad, **bad})


def needed(base: Field) -> Field:
    """`base`, and it must not be left out."""
    return also(base, required=MISSING)


def ruled(base: Field, bad: Mapping[str, Any], good: tuple[Any, ...] = ()) -> Field:
    """`base`, with CEL rules: the beginning of each rule's message, and what it refuses."""
    return Field((*base.good, *good), {**base.bad, **bad})


def number(least: float, most: float) -> Field:
    """A number with both bounds."""
    return Field(good=(least, most), bad={"minimum": least - 1, "maximum": most + 1})


def text(longest: str, *good: str, bad: tuple[str, ...] = (), empty: bool = True) -> Field:
    """A string; `longest` is as long as it may be, `bad` breaks its pattern, `empty` says whether "" is accepted."""
    refused: dict[str, Any] = {"maxLength": longest + longest[-1]}
    if bad:
        refused["pattern"] = bad
    if not empty and "" not in bad:
        refused["minLength"] = ""
    return Field(good=(*good, longest), bad=refused)


def choice(*values: str) -> Field:
    """One of a few words."""
    return Field(good=values, bad={"enum": ("", values[0].lower(), "Other")})


def several(item: Callable[[int], Any], most: int, *, unique: bool = True, least: int = 0) -> Field:
    """A list with at most `most` items, told apart by a key or by themselves if they are `unique`."""
    refused: dict[str, Any] = {"maxItems": [item(index) for index in range(most + 1)]}
    if unique:
        refused["unique"] = [item(0), item(0)]
    if least:
        refused["minItems"] = [item(index) for index in range(least - 1)]
    return Field(good=([item(index) for index in range(least)], [item(index) for index in range(most)]), bad=refused)


def mapping(value: Callable[[int], Any], most: int) -> Field:
    """An object with free names."""
    return Field(
        good=({}, {f"name-{index}": value(index) for index in range(most)}),
        bad={"maxProperties": {f"name-{index}": value(index) for index in range(most + 1)}},
    )


LABEL = text("a" * 63, "a", "front-door-2", bad=("", "-a", "a-", "A", "a.b", "a_b"))
OBJECT_NAME = text("a" * 253, "a", "faces-code", "v1.faces", bad=("", "-a", "a-", "A", "a..b", "a_b", "a/b"))
OPTIONAL_OBJECT_NAME = text("a" * 253, "", "faces-code", bad=("-a", "a-", "A", "a..b", "a_b"))
LABEL_KEY = text("a/" + "b" * 315, "zone", "edge.example.org/zone", bad=("", "-a", "a/b/c", "a b", "/a", "a/"))
LABEL_VALUE = text("a" * 63, "", "west", "v1.2_3", bad=("-a", "a-", "a b", "a/b"))
DATA_KEY = text("a" * 253, "faces.py", "KEY_1", ".hidden", bad=("", "a/b", "a b"))
ABSOLUTE_PATH = text(
    "/" + "a" * 511,
    "/a",
    "/srv/photos",
    "/srv/.cache/..a",
    "/srv/überwachung 2",
    bad=("", "/", "a", "./a", "/a/", "/a//b", "/a/../b", "/..", "/a/./b", "/a:b", "/a\n"),
)
RELATIVE_PATH = text(
    "a" * 512, "a", "code/faces.py", ".env", bad=("", "/a", "a/", "a//b", "../a", "a/../b", "a/..", ".", "a:b")
)
QUANTITY = Field(
    good=(0, 2, "0", "100m", "1.5", ".5", "128Mi", "1e3", "1" * 32),
    bad={
        "minimum": -1,
        "maxLength": "1" * 33,
        "pattern": ("", "-1", "1 Mi", "1mi", "Mi", "1e", "1.2.3", "one"),
    },
)
MESSAGE = text("a" * 4096, "", "it waits: 91 °C, critical 85 °C")
REASON = text("A" + "a" * 63, "", "TooHot", bad=("tooHot", "Too hot", "Too-Hot"))
TIME = Field(
    good=("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+02:00"),
    bad={"format": ("", "2026-01-02", "yesterday", "2026-13-02T03:04:05Z")},
)
COUNT = number(0, 2**31 - 1)
BYTES = number(0, 2**53 - 1)
SCORE = number(0, 1_000_000)
GENERATION = number(-1, 2**53 - 1)


def under(path: str, fields: Mapping[str, Field]) -> dict[str, Field]:
    """`fields` of an object at `path`; the name "" is the object itself."""
    return {f"{path}.{name}" if name else path: field for name, field in fields.items()}


def conditions() -> dict[str, Field]:
    """A status's conditions."""
    return {
        "status.conditions": several(
            lambda index: {
                "type": f"Ready{index}",
                "status": "True",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
                "reason": "Found",
            },
            16,
        ),
        **under(
            "status.conditions[]",
            {
                "type": needed(LABEL_KEY),
                "status": needed(choice("True", "False", "Unknown")),
                "observedGeneration": GENERATION,
                "lastTransitionTime": needed(TIME),
                "reason": needed(text("A" + "a" * 63, "F", "Found", bad=("found", "Not found"), empty=False)),
                "message": MESSAGE,
            },
        ),
    }


def factors() -> dict[str, Field]:
    """What a score is made of."""
    return {"load": needed(SCORE), "performance": needed(SCORE), "thermal": needed(number(0, 1))}


def environment() -> dict[str, Field]:
    """`env` and `envFrom` of an EdgeApp or an EdgeJob."""
    reference = {"name": needed(OBJECT_NAME), "key": needed(DATA_KEY)}
    one_source = "give exactly one of fieldRef, resourceFieldRef"
    return {
        "env": several(lambda index: {"name": f"A{index}", "value": ""}, 100),
        "env[]": ruled(
            Field(good=({"name": "A", "value": ""}, {"name": "EDGEWISE", "value": "a"})),
            {
                "give exactly one of value and valueFrom": (
                    {"name": "A"},
                    {"name": "A", "value": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ),
                "names that begin with EDGEWISE_": {"name": "EDGEWISE_JOB", "value": "a"},
            },
        ),
        "env[].name": needed(text("A" * 253, "A", "_a.b-c", bad=("", "1A", "A B", "A="))),
        "env[].value": text("a" * 8192, "", "$(OTHER)\n"),
        "env[].valueFrom": ruled(
            Field(good=({"fieldRef": {"fieldPath": "metadata.name"}}, {"secretKeyRef": {"name": "a", "key": "b"}})),
            {
                one_source: (
                    {},
                    {"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "a", "key": "b"}},
                    {"configMapKeyRef": {"name": "a", "key": "b"}, "resourceFieldRef": {"resource": "limits.cpu"}},
                )
            },
        ),
        "env[].valueFrom.fieldRef.fieldPath": needed(
            text(
                f"metadata.annotations['{'a' * 317}']",
                *("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels['a/b']"),
                *("spec.nodeName", "spec.serviceAccountName"),
                *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
                bad=("", "metadata", "metadata.labels", "metadata.labels['']", "spec.containers", "status.podips"),
            )
        ),
        "env[].valueFrom.resourceFieldRef.resource": needed(
            text(
                "requests.hugepages-" + "a" * 109,
                *("limits.cpu", "limits.memory", "requests.ephemeral-storage", "limits.hugepages-2Mi"),
                bad=("", "cpu", "limits", "limits.gpu", "limit.cpu"),
            )
        ),
        "env[].valueFrom.resourceFieldRef.divisor": QUANTITY,
        **under("env[].valueFrom.configMapKeyRef", reference),
        **under("env[].valueFrom.secretKeyRef", reference),
        "envFrom": several(lambda index: {"configMapRef": {"name": f"a{index}"}}, 32, unique=False),
        "envFrom[]": ruled(
            Field(good=({"configMapRef": {"name": "a"}}, {"prefix": "", "secretRef": {"name": "a"}})),
            {
                "give exactly one of configMapRef and secretRef": (
                    {"prefix": "A_"},
                    {"configMapRef": {"name": "a"}, "secretRef": {"name": "a"}},
                )
            },
        ),
        "envFrom[].prefix": text("A" * 128, "", "APP_", bad=("1A", "A B")),
        "envFrom[].configMapRef.name": needed(OBJECT_NAME),
        "envFrom[].secretRef.name": needed(OBJECT_NAME),
    }


def node_selector() -> Field:
    """Labels that a device must have."""
    return ruled(
        mapping(lambda index: "", 32),
        {"a label's key has 1 to 317 characters": ({"": "a"}, {"a" * 318: "a"})},
        good=({"a" * 317: "a"}, {"edge.example.org/zone": "west"}),
    )
