"""Every field of every kind, against a real API server: what it accepts, what it refuses, and nothing left out."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from edgewise.api import KINDS, Kind
from edgewise.api.crd import custom_resource_definition

from tests.api.app_fields import EDGE_APP_FIELDS
from tests.api.cluster import Cluster, Refused
from tests.api.cron_fields import EDGE_CRON_JOB_FIELDS
from tests.api.examples import EXAMPLES, named
from tests.api.job_fields import EDGE_JOB_FIELDS
from tests.api.node_fields import EDGE_NODE_FIELDS
from tests.api.paths import BOUNDS, changed, constraints
from tests.api.stream_fields import EDGE_STREAM_FIELDS
from tests.api.values import Field

FIELDS: Final[dict[str, dict[str, Field]]] = {
    "EdgeNode": EDGE_NODE_FIELDS,
    "EdgeApp": EDGE_APP_FIELDS,
    "EdgeJob": EDGE_JOB_FIELDS,
    "EdgeCronJob": EDGE_CRON_JOB_FIELDS,
    "EdgeStream": EDGE_STREAM_FIELDS,
}

SAYINGS: Final = {
    "minimum": "should be greater than or equal to",
    "maximum": "should be less than or equal to",
    "minLength": "chars long",
    "maxLength": "Too long: may not be more than",
    "minItems": "should have at least",
    "maxItems": "Too many:",
    "maxProperties": "Too many:",
    "pattern": "should match",
    "enum": "Unsupported value:",
    "format": "must be of type date-time",
    "required": "Required value",
    "unique": "Duplicate value:",
}
"""How the API server says that a constraint is broken; a rule has its own message."""

NAME: Final = "edgewise-kinds-example"


def fields() -> Iterator[Any]:
    """Each field of each kind."""
    for kind in KINDS:
        for path, field in FIELDS[kind.name].items():
            yield pytest.param(kind, path, field, id=f"{kind.name}.{path}")


def refusals() -> Iterator[Any]:
    """Each constraint of each field, and a value that breaks it."""
    for kind in KINDS:
        for path, field in FIELDS[kind.name].items():
            for index, (constraint, value) in enumerate(field.refusals()):
                label = constraint.replace(" ", "-")[:40]
                yield pytest.param(kind, path, constraint, value, id=f"{kind.name}.{path}-{label}-{index}")


def judge(cluster: Cluster, stored: dict[str, str], kind: Kind, manifest: dict[str, Any], path: str) -> None:
    """Have the API server judge an object, or only its status if that is where `path` leads. Raises `Refused`."""
    if path.startswith("status"):
        whole_status = [{"op": "add", "path": "/status", "value": manifest["status"]}]
        cluster.patch(kind, stored[kind.name], whole_status, status=True)
    else:
        cluster.create(kind, {name: value for name, value in manifest.items() if name != "status"})


def example_with(kind: Kind, path: str, value: Any) -> tuple[dict[str, Any], str]:
    """An example of the kind with `value` at `path`, and the path as the API server writes it."""
    for example in EXAMPLES[kind.name]:
        if (found := changed(named(example, NAME), path, value)) is not None:
            return found
    pytest.fail(f"no example of {kind.name} has {path}: add it to examples.py")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_examples_are_accepted(cluster: Cluster, stored: dict[str, str], kind: Kind) -> None:
    for example in EXAMPLES[kind.name]:
        manifest = named(example, NAME)
        judge(cluster, stored, kind, manifest, "spec")
        judge(cluster, stored, kind, manifest, "status")


@pytest.mark.parametrize(("kind", "path", "field"), list(fields()))
def test_accepts(cluster: Cluster, stored: dict[str, str], kind: Kind, path: str, field: Field) -> None:
    for value in field.good:
        manifest, _ = example_with(kind, path, value)
        judge(cluster, stored, kind, manifest, path)


@pytest.mark.parametrize(("kind", "path", "constraint", "value"), list(refusals()))
def test_refuses(cluster: Cluster, stored: dict[str, str], kind: Kind, path: str, constraint: str, value: Any) -> None:
    manifest, written = example_with(kind, path, value)
    with pytest.raises(Refused) as refused:
        judge(cluster, stored, kind, manifest, path)
    saying = SAYINGS.get(constraint, constraint)
    causes = refused.value.causes
    assert any(saying in cause.message and cause.field.startswith(written) for cause in causes), (
        f"{written} is refused, but not for its {constraint}: {causes}"
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_constraint_is_left_out(kind: Kind) -> None:
    """Each constraint of the CRD has a value that breaks it, and one that just keeps it."""
    schema = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    missing = []
    for path, constraint, bound in constraints(schema):
        if not path:
            continue  # rules on the whole object are tested in test_kind_changes.py
        field = FIELDS[kind.name].get(path, Field())
        if not field.good:
            missing.append(f"{path}: no value is accepted")
        if not any(constraint == broken or (broken and constraint.startswith(broken)) for broken in field.bad):
            missing.append(f"{path}: no value breaks {constraint!r}")
        if constraint in BOUNDS and not any(measure(constraint, value) == bound for value in field.good):
            missing.append(f"{path}: no accepted value has exactly the {constraint} {bound}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_case_is_of_a_constraint_that_is_gone(kind: Kind) -> None:
    schema = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    declared = {(path, constraint) for path, constraint, _ in constraints(schema)}
    unknown = [
        f"{path}: {broken}"
        for path, field in FIELDS[kind.name].items()
        for broken in field.bad
        if not any(path == where and name.startswith(broken) for where, name in declared)
    ]
    assert not unknown


def measure(bound: str, value: Any) -> float | None:
    """What of a value a bound is about."""
    if bound in ("minimum", "maximum"):
        return value if isinstance(value, int | float) else None
    return len(value) if isinstance(value, str | list | dict) else None
