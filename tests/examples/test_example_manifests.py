"""The examples' manifests as a real API server takes them: every field is known, and their parts name each other."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from testbed.commands import kubectl
from tests.examples.conftest import ROOT

EXAMPLES = ("surveillance", "vehicles")

Kubectl = Callable[..., str]


@pytest.fixture(scope="module", name="kubectl")
def kubectl_(kubeconfig: Path) -> Kubectl:
    """kubectl for the API server; returns what it prints."""
    return partial(kubectl, kubeconfig)


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of these tests alone, in a cluster that knows the kinds. The kinds stay."""
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "--filename", str(ROOT / "crds"))
    name = f"edgewise-examples-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(params=EXAMPLES)
def rendered(request: pytest.FixtureRequest, kubectl: Kubectl) -> str:
    return kubectl("kustomize", str(ROOT / "examples" / request.param))


def test_the_api_server_takes_them(kubectl: Kubectl, namespace: str, rendered: str) -> None:
    ours = rendered.replace("namespace: demo\n", f"namespace: {namespace}\n")
    created = kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=ours)
    assert sorted(line.split("/")[0].split(".")[0] for line in created.splitlines()) == [
        "configmap",
        "edgeapp",
        "edgejob",
    ]


def test_their_parts_name_each_other(rendered: str) -> None:
    objects: dict[str, Any] = {one["kind"]: one for one in yaml.safe_load_all(rendered)}
    code, app, job = objects["ConfigMap"], objects["EdgeApp"]["spec"], objects["EdgeJob"]
    assert {one["metadata"]["namespace"] for one in objects.values()} == {"demo"}
    assert job["spec"]["appRef"]["name"] == objects["EdgeApp"]["metadata"]["name"]
    assert app["source"]["configMap"]["name"] == code["metadata"]["name"]
    folder, _, script = app["command"][1].rpartition("/")
    assert folder == app["source"]["path"]
    assert code["data"][script].startswith('"""')
    assert app["outputs"]["include"] == ["*.csv"]


def test_the_api_server_takes_the_one_with_a_bundle(kubectl: Kubectl, namespace: str) -> None:
    rendered = kubectl("kustomize", str(ROOT / "examples/sharpness"))
    ours = rendered.replace("namespace: demo\n", f"namespace: {namespace}\n")
    created = kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=ours)
    assert len(created.splitlines()) == 2


@pytest.mark.parametrize(("example", "kind"), [("hourly", "EdgeCronJob"), ("meter", "EdgeStream")])
def test_the_api_server_takes_those_that_make_jobs(kubectl: Kubectl, namespace: str, example: str, kind: str) -> None:
    rendered = kubectl("kustomize", str(ROOT / "examples" / example))
    ours = rendered.replace("namespace: demo\n", f"namespace: {namespace}\n")
    created = kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=ours)
    assert sorted(line.split("/")[0].split(".")[0] for line in created.splitlines()) == [
        "configmap",
        "edgeapp",
        kind.lower(),
    ]
    objects: dict[str, Any] = {one["kind"]: one for one in yaml.safe_load_all(rendered)}
    app = objects[kind]["spec"]["jobTemplate"]["spec"]["appRef"]["name"]
    assert app == objects["EdgeApp"]["metadata"]["name"]
