"""A folder of the user's own over a base image: pushed once, fetched once per device, there without the gateway."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed import Fleet, wait_until
from testbed.results import Results, results
from tests.fleet.work import Job, make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

SYSTEM = ("--namespace", "edgewise-system")
MIB = 2**20

MAIN = """
import hashlib, os, pathlib, sys
sys.path.insert(0, os.path.dirname(__file__))
from lib import counting
here = pathlib.Path(__file__).parent
refused = []
for attempt in (
    lambda: open(__file__, "a"),
    lambda: (here / "new").touch(),
    lambda: os.chmod(__file__, 0o666),
    lambda: os.unlink(__file__),
):
    try:
        attempt()
    except OSError:
        refused.append("yes")
    else:
        refused.append("no")
model = hashlib.sha256((here / "model.bin").read_bytes()).hexdigest()
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
row = f"{counting.N},{'+'.join(refused)},{os.getuid() != 0},{model}"
(folder / "counted.csv").write_text(f"n,refused,user,model\\n{row}\\n")
"""


def _model(number: int, size: int) -> bytes:
    """Bytes that no compression makes fewer, the same in every run."""
    return hashlib.shake_256(bytes([number])).digest(size)


def _tar(model: bytes) -> bytes:
    files = {"main.py": MAIN.encode(), "lib/counting.py": b"N = 42\n", "model.bin": model}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _push(gateway: Results, namespace: str, model: bytes, status: int = 201) -> str:
    """The digest of a bundle with that model."""
    path = f"/v1/namespaces/{namespace}/bundles"
    answer = gateway.request(path, method="PUT", body=_tar(model), **{"Content-Encoding": "gzip"})
    assert answer.status == status, answer.data
    digest: str = json.loads(answer.data)["digest"]
    return digest


def _app(fleet: Fleet, namespace: str, name: str, digest: str) -> None:
    make_app(fleet, namespace, name, "unused", source={"bundle": {"digest": digest}, "path": "/app"})


def _on(node: str) -> dict[str, dict[str, str]]:
    return {"nodeSelector": {"kubernetes.io/hostname": node}}


def _agent(fleet: Fleet, node: str) -> str:
    """The name of the agent's pod on a device."""
    found = fleet.kubectl(
        "get",
        "pods",
        *SYSTEM,
        "-l=app.kubernetes.io/component=agent",
        f"--field-selector=spec.nodeName={node}",
        "-o=name",
    )
    return found.split()[-1]


def _said(fleet: Fleet, node: str, what: str) -> int:
    """How often the agent of a device has said so."""
    return fleet.kubectl("logs", *SYSTEM, _agent(fleet, node)).count(what)


def _fetched(fleet: Fleet, node: str, namespace: str, digest: str) -> int:
    return _said(fleet, node, f"bundle {digest} of namespace {namespace} is here")


@contextmanager
def _without_gateway(fleet: Fleet) -> Iterator[None]:
    fleet.kubectl("scale", *SYSTEM, "deployment/edgewise-gateway", "--replicas=0")
    try:
        wait_until(
            lambda: not fleet.kubectl("get", "pods", *SYSTEM, "-l=app.kubernetes.io/component=gateway", "-o=name"),
            "the gateway is gone",
            seconds=90,
        )
        yield
    finally:
        fleet.kubectl("scale", *SYSTEM, "deployment/edgewise-gateway", "--replicas=1")


@contextmanager
def _cache(fleet: Fleet, size: int) -> Iterator[None]:
    """A cache of that size on every device."""
    agents = "daemonset/edgewise-agent"
    before = fleet.kubectl(
        "get", *SYSTEM, agents, "-o=jsonpath={..env[?(@.name=='EDGEWISE_BUNDLE_CACHE_BYTES')].value}"
    ).strip()
    try:
        fleet.kubectl("set", "env", *SYSTEM, agents, f"EDGEWISE_BUNDLE_CACHE_BYTES={size}")
        fleet.kubectl("rollout", "status", *SYSTEM, agents, "--timeout=180s", seconds=200)
        yield
    finally:
        fleet.kubectl("set", "env", *SYSTEM, agents, f"EDGEWISE_BUNDLE_CACHE_BYTES={before}")
        fleet.kubectl("rollout", "status", *SYSTEM, agents, "--timeout=180s", seconds=200)


def test_a_pushed_folder_runs_and_runs_again_without_the_gateway(fleet: Fleet, namespace: str) -> None:
    model = _model(1, 3 * MIB)
    counted = f"n,refused,user,model\n42,yes+yes+yes+yes,True,{hashlib.sha256(model).hexdigest()}\n".encode()
    with results(fleet, namespace, role="edit") as gateway:
        digest = _push(gateway, namespace, model)
        assert _push(gateway, namespace, model, status=200) == digest
        _app(fleet, namespace, "counter", digest)
        node = start(fleet, namespace, "first", "counter").until("Complete")["node"]
        assert gateway.file(namespace, "first", "counted.csv") == counted
        together = [start(fleet, namespace, f"more-{one}", "counter", placement=_on(node)) for one in range(3)]
        for job in together:
            job.until("Complete")
    with _without_gateway(fleet):
        again = start(fleet, namespace, "second", "counter", placement=_on(node))
        assert again.until_phase("Collecting")["node"] == node
    again.until("Complete")
    with results(fleet, namespace, role="edit") as gateway:
        assert gateway.file(namespace, "second", "counted.csv") == counted
    assert _fetched(fleet, node, namespace, digest) == 1


def test_a_job_waits_for_a_bundle_that_cannot_be_fetched_and_says_so(fleet: Fleet, namespace: str) -> None:
    missing = f"sha256:{'0' * 64}"
    _app(fleet, namespace, "counter", missing)
    job = start(fleet, namespace, "waits", "counter")

    def told() -> bool:
        events = fleet.kubectl("get", "events", "--namespace", namespace, "--output=json")
        return any(f"bundle {missing} of namespace" in one.get("message", "") for one in json.loads(events)["items"])

    wait_until(told, "the pod's events name the bundle", seconds=90)
    assert not job.holds("Finished")
    job.delete()


def test_the_longest_unwanted_bundle_makes_room(fleet: Fleet, namespace: str) -> None:
    """In a cache of 16 MiB a second bundle of 5 MiB finds no room beside the first while it is unpacked."""
    models = [_model(number, 5 * MIB) for number in (2, 3)]
    with _cache(fleet, 16 * MIB), results(fleet, namespace, role="edit") as gateway:
        digests = [_push(gateway, namespace, model) for model in models]
        for number, digest in enumerate(digests):
            _app(fleet, namespace, f"app-{number}", digest)
        first = start(fleet, namespace, "first", "app-0", retention={"pods": "0s"})
        node = first.until("Complete")["node"]
        _gone(fleet, first)
        second = start(fleet, namespace, "second", "app-1", placement=_on(node), retention={"pods": "0s"})
        second.until("Complete")
        _gone(fleet, second)
        evicted = f"bundle {namespace}.{digests[0].removeprefix('sha256:')} makes room"
        assert _said(fleet, node, evicted) == 1
        start(fleet, namespace, "third", "app-0", placement=_on(node)).until("Complete")
        assert _fetched(fleet, node, namespace, digests[0]) == 2


def _gone(fleet: Fleet, job: Job) -> None:
    """Wait until a job's pod, and with it its volume, is gone."""
    wait_until(lambda: not job.pods(), f"the pods of {job.name} are gone", seconds=90)
