"""A real EdgeJob through all of Edgewise: placed, run, its CSVs home and checksummed, or told what went wrong."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator

import pytest

from testbed import Fleet, wait_until
from testbed.install import edge_nodes, install
from testbed.results import results
from tests.fleet.pods import apply
from tests.fleet.work import Job, make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

REPORT = """
import csv, os, pathlib, sys
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
with (folder / "report.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["name", "value"])
    for name in sorted(os.environ):
        if name.startswith(("EDGEWISE_", "TEST_")):
            writer.writerow([name, os.environ[name]])
(folder / "notes.txt").write_text("not asked for")
(folder / "sub").mkdir()
(folder / "sub" / "more.csv").write_text("a\\n1\\n2\\n")
print("arguments", sys.argv[1:])
"""


READ_FILES = """
read = [pathlib.Path(path).read_text() for path in ("/keys/token", "/conf/TEST_LEVEL")]
(folder / "files.csv").write_text("\\n".join(["key", *read]))
try:
    pathlib.Path("/app/new").write_text("x")
except OSError as error:
    print("read-only", error.errno)
"""


@pytest.fixture
def restricted(fleet: Fleet, namespace: str) -> str:
    """The test's namespace, held to Pod Security `restricted`."""
    fleet.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    return namespace


@pytest.fixture
def cool(fleet: Fleet) -> Iterator[None]:
    """Every device at its usual temperature again after the test."""
    before = {name: device.settings.celsius for name, device in fleet.devices().items() if name != "hub"}
    yield
    for name, celsius in before.items():
        fleet.heat(name, celsius)
    wait_until(lambda: set(_reasons(fleet).values()) == {"Fresh"}, "all devices are cool", seconds=60)


def _reasons(fleet: Fleet) -> dict[str, str]:
    """The reason of each device's readiness."""
    conditions = {node["metadata"]["name"]: node["status"]["conditions"] for node in edge_nodes(fleet)}
    return {name: next(one["reason"] for one in all_ if one["type"] == "Ready") for name, all_ in conditions.items()}


def _make(fleet: Fleet, kind: str, name: str, namespace: str, **content: object) -> None:
    metadata = {"name": name, "namespace": namespace}
    apply(fleet, {"apiVersion": "v1", "kind": kind, "metadata": metadata} | content)


def test_results_come_home_as_they_were_written(fleet: Fleet, restricted: str) -> None:
    outputs = {"include": ["*.csv", "sub/*.csv"]}
    make_app(fleet, restricted, "report", REPORT, outputs=outputs, env=[{"name": "TEST_APP", "value": "a"}])
    job = start(fleet, restricted, "report", "report", env=[{"name": "TEST_JOB", "value": "b"}], extraArgs=["--more"])
    status = job.until("Finished")

    assert (status["phase"], job.holds("Complete")) == ("Succeeded", True)
    assert status["observedGeneration"] == job.read()["metadata"]["generation"]
    assert status["results"]["state"] == "Complete"
    assert status["results"]["skipped"] == 1
    files = {file["name"]: file for file in status["results"]["files"]}
    assert set(files) == {"report.csv", "sub/more.csv"}
    assert files["sub/more.csv"]["rows"] == 2

    with results(fleet, restricted) as reader:
        listing = reader.listing(restricted, "report")
        assert {file["name"]: file["sha256"] for file in listing["files"]} == {
            name: file["sha256"] for name, file in files.items()
        }
        content = reader.file(restricted, "report", "report.csv")
        assert reader.file(restricted, "report", "sub/more.csv") == b"a\n1\n2\n"
    assert hashlib.sha256(content).hexdigest() == files["report.csv"]["sha256"]
    assert len(content) == files["report.csv"]["bytes"]
    values = dict(csv.reader(io.StringIO(content.decode())))
    assert values["EDGEWISE_JOB"] == "report"
    assert values["EDGEWISE_ATTEMPT"] == "1"
    assert values["EDGEWISE_NODE"] == status["node"]
    assert (values["TEST_APP"], values["TEST_JOB"]) == ("a", "b")
    pod = job.pods()[0]
    assert pod["spec"]["nodeName"] == status["node"]
    logs = fleet.kubectl("logs", "--namespace", restricted, pod["metadata"]["name"])
    assert logs == "arguments ['--more']\n"
    assert {"Placed", "AttemptSucceeded", "Succeeded"} <= job.events()


def test_other_users_do_not_get_them(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "report", REPORT)
    start(fleet, namespace, "report", "report").until("Complete")
    with results(fleet, namespace) as reader:
        assert reader.request(f"/v1/namespaces/{namespace}/jobs/report/files").status == 200
        assert reader.request("/v1/namespaces/default/jobs/report/files").status == 403
        assert reader.request(f"/v1/namespaces/{namespace}/jobs/other/files").status == 404
        stranger = reader.request(f"/v1/namespaces/{namespace}/jobs/report/files", Authorization="Bearer nonsense")
        assert stranger.status == 401


@pytest.mark.usefixtures("cool")
def test_a_hot_device_gets_no_work_and_the_reason_is_told(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "report", REPORT)
    best = start(fleet, namespace, "before", "report").until("Complete")["node"]
    fleet.heat(best, 95)
    wait_until(lambda: _reasons(fleet)[best] == "TooHot", f"{best} is too hot", seconds=30)
    status = start(fleet, namespace, "after", "report").until("Complete")
    assert status["node"] != best
    rejected = {one["node"]: one for one in status["placement"]["rejected"]}
    assert rejected[best]["reason"] == "TooHot"
    assert rejected[best]["message"] == "95 °C, critical 85 °C"


def test_secrets_configmaps_and_the_other_fields_of_a_pod(fleet: Fleet, namespace: str) -> None:
    _make(fleet, "Secret", "keys", namespace, stringData={"token": "s3cret"})
    _make(fleet, "ConfigMap", "conf", namespace, data={"TEST_LEVEL": "high"})
    _make(fleet, "ServiceAccount", "runner", namespace)
    script = REPORT + READ_FILES
    make_app(
        fleet,
        namespace,
        "report",
        script,
        env=[{"name": "TEST_TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}],
        envFrom=[{"configMapRef": {"name": "conf"}}],
        files=[
            {"name": "keys", "mountPath": "/keys", "secret": {"secretName": "keys"}},
            {"name": "conf", "mountPath": "/conf", "configMap": {"name": "conf"}},
        ],
        serviceAccountName="runner",
        imagePullSecrets=[{"name": "pull"}],
        tolerations=[{"key": "team", "operator": "Exists"}],
        terminationGracePeriodSeconds=7,
    )
    job = start(fleet, namespace, "report", "report")
    job.until("Complete")
    with results(fleet, namespace) as reader:
        values = dict(csv.reader(io.StringIO(reader.file(namespace, "report", "report.csv").decode())))
        assert reader.file(namespace, "report", "files.csv") == b"key\ns3cret\nhigh"
    assert (values["TEST_TOKEN"], values["TEST_LEVEL"]) == ("s3cret", "high")
    pod = job.pods()[0]
    assert pod["spec"]["serviceAccountName"] == "runner"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 7
    assert any(toleration.get("key") == "team" for toleration in pod["spec"]["tolerations"])
    logs = fleet.kubectl("logs", "--namespace", namespace, pod["metadata"]["name"])
    assert "read-only 30" in logs


ONE_ATTEMPT = {"retry": {"maxAttempts": 1}}


def test_an_app_that_does_not_exist_yet(fleet: Fleet, namespace: str) -> None:
    job = start(fleet, namespace, "early", "late")
    words = f"EdgeApp {namespace}/late does not exist: create it"
    wait_until(
        lambda: words in job.condition("Reconciling").get("message", ""), "it says what it waits for", seconds=10
    )
    assert not job.holds("Stalled")
    job.until("Stalled", 60)
    assert job.condition("Stalled")["reason"] == "AppNotFound"
    assert words in job.condition("Stalled")["message"]
    make_app(fleet, namespace, "late", REPORT)
    assert job.until("Finished")["phase"] == "Succeeded"


BAD_ENDS = [
    ("image", {"image": "edgewise.local/nothing:dev"}, "", "ImageError", "check spec.image"),
    ("silent", {}, "print('nothing')", "NoOutputs", "write them to $EDGEWISE_OUTPUTS"),
    ("three", {}, "raise SystemExit(3)", "AppError", "exited with code 3"),
    ("greedy", {}, "x = bytearray(10**9)", "OutOfMemory", "raise resources.limits.memory"),
    ("command", {"command": ["/no/such"]}, "", "StartError", "correct spec.command"),
]


@pytest.mark.parametrize(("name", "spec", "script", "reason", "remedy"), BAD_ENDS, ids=[end[0] for end in BAD_ENDS])
def test_each_bad_end_says_what_to_do(
    fleet: Fleet, namespace: str, name: str, spec: dict[str, object], script: str, reason: str, remedy: str
) -> None:
    make_app(fleet, namespace, name, script, **spec)
    job = start(fleet, namespace, name, name, **ONE_ATTEMPT)
    status = job.until("Finished")
    assert status["phase"] == "Failed"
    assert job.condition("Failed")["reason"] == reason
    assert remedy in job.condition("Failed")["message"]
    assert job.condition("Complete")["status"] == "False"
    assert len(status["attempts"]) == 1
    assert reason in job.events()


def test_a_missing_secret_is_told_and_mended(fleet: Fleet, namespace: str) -> None:
    env = [{"name": "TEST_TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}]
    make_app(fleet, namespace, "report", REPORT, env=env)
    job = start(fleet, namespace, "report", "report")
    job.until("Stalled", 60)
    assert 'secret "keys" not found' in job.condition("Stalled")["message"]
    fleet.kubectl("create", "secret", "generic", "keys", "--from-literal=token=x", "--namespace", namespace)
    assert job.until("Finished")["phase"] == "Succeeded"
    assert not job.holds("Stalled")


def test_what_is_not_supported_yet_is_reported(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "camera", REPORT, requires={"devices": [{"name": "camera"}]})
    job = start(fleet, namespace, "camera", "camera")
    job.until("Stalled", 30)
    assert job.condition("Stalled")["reason"] == "NotSupported"
    app = json.loads(fleet.kubectl("get", "edgeapp", "camera", "--namespace", namespace, "--output=json"))
    ready = next(one for one in app["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NotSupported")


def test_a_failure_is_tried_again_elsewhere(fleet: Fleet, namespace: str) -> None:
    script = "import os, sys\nsys.exit(3 if os.environ['EDGEWISE_ATTEMPT'] == '1' else None)"
    make_app(fleet, namespace, "second", script, outputs=None)
    job = start(fleet, namespace, "second", "second", retry={"backoffSeconds": 1})
    status = job.until("Finished")
    assert status["phase"] == "Succeeded"
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Failed", "Succeeded"]
    assert status["attempts"][0]["exitCode"] == 3
    assert status["attempts"][0]["node"] != status["attempts"][1]["node"]
    assert status["failures"] == 1


SLEEP = "import time\ntime.sleep(600)"


def _running(fleet: Fleet, namespace: str, name: str) -> Job:
    make_app(fleet, namespace, name, SLEEP)
    job = start(fleet, namespace, name, name)
    job.until_phase("Running")
    return job


def test_suspend_resume_and_cancel(fleet: Fleet, namespace: str) -> None:
    job = _running(fleet, namespace, "sleeper")

    def patch(spec: str) -> None:
        fleet.kubectl("patch", "edgejob", "sleeper", "--namespace", namespace, "--type=merge", f"--patch={spec}")

    patch('{"spec":{"suspend":true}}')
    job.until_phase("Suspended")
    wait_until(lambda: not job.pods(), "the pod is gone", seconds=60)
    patch('{"spec":{"suspend":false}}')
    job.until_phase("Running")
    patch('{"spec":{"cancel":true}}')
    assert job.until("Finished")["phase"] == "Cancelled"
    wait_until(lambda: not job.pods(), "the pod is gone", seconds=60)


WRITE_AND_SLEEP = """
import os, pathlib, time
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "half.csv").write_text("a\\n1\\n")
time.sleep(600)
"""


def test_a_deleted_job_leaves_nothing_and_its_name_is_free_at_once(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "sleeper", WRITE_AND_SLEEP)
    job = start(fleet, namespace, "sleeper", "sleeper")
    job.until_phase("Running")
    first = job.read()["metadata"]["uid"]
    pod = job.pods()[0]
    kubelet = fleet.device(pod["spec"]["nodeName"]).root() / "var/lib/kubelet"
    folder, spool = kubelet / "pods" / pod["metadata"]["uid"], kubelet / "plugins/outputs.edgewise.dev/spool"
    wait_until(lambda: list(folder.rglob("half.csv")), "it has written", seconds=30)
    job.delete()
    fleet.kubectl("delete", "edgeapp", "sleeper", "--namespace", namespace)
    make_app(fleet, namespace, "again", REPORT)
    second = start(fleet, namespace, "sleeper", "again")
    assert second.until("Finished")["phase"] == "Succeeded"
    assert second.read()["metadata"]["uid"] != first
    wait_until(lambda: len(second.pods()) == 1, "the first job's pod is gone", seconds=60)
    wait_until(lambda: not folder.exists(), "its folder on the device is gone", seconds=60)
    wait_until(lambda: not list(spool.iterdir()), "nothing of it is left in the device's spool", seconds=60)


@pytest.mark.usefixtures("cool")
def test_a_hot_fleet_can_be_installed_into(fleet: Fleet) -> None:
    """What `make demo` does the second time, after somebody has heated a device."""
    fleet.heat("edge-1", 95)
    wait_until(lambda: _reasons(fleet)["edge-1"] == "TooHot", "edge-1 is too hot", seconds=30)
    install(fleet)
