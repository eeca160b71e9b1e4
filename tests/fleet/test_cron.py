"""EdgeCronJobs on the fleet: real minutes, real runs, and their results at home."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from testbed import Fleet, wait_until
from testbed.results import results
from tests.fleet.pods import apply
from tests.fleet.work import Job, make_app

pytestmark = pytest.mark.usefixtures("edgewise")

TICK: Final = """
import os, pathlib
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "tick.csv").write_text("job\\n" + os.environ["EDGEWISE_JOB"] + "\\n")
"""
SLOW: Final = "import time\ntime.sleep(600)"
EVERY_MINUTE: Final = "* * * * *"
DUE_SECONDS: Final = 90.0
"""The next minute begins, and its run is seen."""
SETTLED_SECONDS: Final = 180.0
"""A run that has just ended has brought home all that it will, and is removed where no history is kept."""


@dataclass(frozen=True)
class Cron:
    """An EdgeCronJob of a test."""

    fleet: Fleet
    namespace: str
    name: str

    def status(self) -> dict[str, Any]:
        """Its status, empty before anyone has looked."""
        text = self.fleet.kubectl("get", "edgecronjob", self.name, "--namespace", self.namespace, "--output=json")
        status: dict[str, Any] = json.loads(text).get("status", {})
        return status

    def runs(self) -> list[dict[str, Any]]:
        """Its EdgeJobs, oldest first."""
        selector = f"--selector=edgewise.dev/cron-job={self.name}"
        text = self.fleet.kubectl("get", "edgejobs", "--namespace", self.namespace, selector, "--output=json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return sorted(items, key=lambda run: str(run["metadata"]["creationTimestamp"]))

    def events(self) -> set[str]:
        """The reasons of its Events."""
        about = f"--field-selector=involvedObject.kind=EdgeCronJob,involvedObject.name={self.name}"
        text = self.fleet.kubectl("get", "events", "--namespace", self.namespace, about, "--output=json")
        return {event["reason"] for event in json.loads(text)["items"]}

    def complete(self) -> list[dict[str, Any]]:
        """Those of its EdgeJobs that are complete, oldest first."""
        return [run for run in self.runs() if _holds(run, "Complete")]

    def until(self, what: str, condition: Callable[["Cron"], object], seconds: float = DUE_SECONDS) -> None:
        """Wait until `condition` says something true of it."""
        wait_until(lambda: condition(self), f"{self.name}: {what}", seconds=seconds)

    def edit(self, **spec: Any) -> None:
        """Change fields of its spec."""
        patch = json.dumps({"spec": spec})
        self.fleet.kubectl("patch", "ecj", self.name, "--namespace", self.namespace, "--type=merge", f"--patch={patch}")

    def run_now(self, token: str) -> None:
        """Ask for a run as docs/jobs.md says."""
        asked = f"edgewise.dev/run-now={token}"
        self.fleet.kubectl("annotate", "ecj", self.name, "--namespace", self.namespace, "--overwrite", asked)


def _holds(run: dict[str, Any], condition: str) -> bool:
    conditions = run.get("status", {}).get("conditions", [])
    return any(one["type"] == condition and one["status"] == "True" for one in conditions)


def make_cron(fleet: Fleet, namespace: str, name: str, app: str, **spec: Any) -> Cron:
    """An EdgeCronJob that runs an app, once a year unless told otherwise."""
    whole = {"schedule": "@yearly", "jobTemplate": {"spec": {"appRef": {"name": app}}}} | spec
    metadata = {"name": name, "namespace": namespace}
    apply(fleet, {"apiVersion": "edgewise.dev/v1alpha1", "kind": "EdgeCronJob", "metadata": metadata, "spec": whole})
    return Cron(fleet, namespace, name)


def test_runs_start_by_schedule_by_request_and_by_policy(fleet: Fleet, namespace: str) -> None:
    """All kinds at once, since each has to wait for a minute to begin."""
    make_app(fleet, namespace, "tick", TICK)
    make_app(fleet, namespace, "slow", SLOW, outputs=None)
    minutely = make_cron(fleet, namespace, "minutely", "tick", schedule=EVERY_MINUTE, timeZone="Europe/Berlin")
    suspended = make_cron(fleet, namespace, "suspended", "tick", schedule=EVERY_MINUTE, suspend=True)
    forgetful = make_cron(fleet, namespace, "forgetful", "tick", successfulJobsHistoryLimit=0)
    policies = [
        make_cron(fleet, namespace, policy.lower(), "slow", concurrencyPolicy=policy)
        for policy in ("Forbid", "Replace")
    ]
    forbids, replaces = policies
    for cron in policies:
        cron.run_now("first")
    suspended.run_now("by-hand")
    forgetful.run_now("by-hand")
    for cron in policies:
        cron.until("it runs", lambda one: one.status().get("activeCount") == 1, seconds=30)
    [stays], [leaves] = forbids.runs(), replaces.runs()
    for cron in policies:
        cron.edit(schedule=EVERY_MINUTE)

    forbids.until("a run is skipped", lambda one: "RunSkipped" in one.events())
    assert [run["metadata"]["uid"] for run in forbids.runs()] == [stays["metadata"]["uid"]]
    replaces.until("a run is replaced", lambda one: _is_replaced(one, leaves))
    replaces.until("that is told", lambda one: "RunReplaced" in one.events(), seconds=30)

    minutely.until("a run is complete", lambda one: one.status().get("lastSuccessfulTime"))
    run = minutely.complete()[0]
    at = datetime.fromisoformat(run["metadata"]["annotations"]["edgewise.dev/scheduled-at"])
    made = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
    assert at.second == 0
    assert made - at < timedelta(seconds=10)
    assert run["metadata"]["name"] == f"minutely-{int(at.timestamp()) // 60}"
    assert run["metadata"]["ownerReferences"][0]["name"] == "minutely"
    by_hand = Job(fleet, namespace, suspended.status()["runNow"]["name"])
    by_hand.until("Complete")
    forgetful.until("its run is complete", lambda one: one.status().get("lastSuccessfulTime"))
    forgetful.until("its run is removed", lambda one: not one.runs(), seconds=SETTLED_SECONDS)
    with results(fleet, namespace) as reader:
        for name in (run["metadata"]["name"], by_hand.name, forgetful.status()["runNow"]["name"]):
            assert reader.file(namespace, name, "tick.csv") == f"job\n{name}\n".encode()
    assert [one["metadata"]["name"] for one in suspended.runs()] == [by_hand.name], "its schedule starts nothing"

    for cron in (*policies, minutely):
        fleet.kubectl("delete", "ecj", cron.name, "--namespace", namespace)
        cron.until("its runs are gone", lambda one: not one.runs(), seconds=60)
    pods = ("get", "pods", "--namespace", namespace, "--output=name")
    names = tuple(f"pod/{cron.name}-" for cron in (*policies, minutely))
    wait_until(
        lambda: not [pod for pod in fleet.kubectl(*pods).split() if pod.startswith(names)],
        "their pods are gone",
        seconds=60,
    )


def _is_replaced(cron: Cron, first: dict[str, Any]) -> bool:
    runs = cron.runs()
    return bool(runs) and all(run["metadata"]["uid"] != first["metadata"]["uid"] for run in runs)
