"""Removing Edgewise: no job pod is stuck without the agents' volumes, results and kinds stay, and it comes back."""

import pytest

from testbed import Fleet, wait_until
from testbed.install import NAMESPACE, install, uninstall
from testbed.results import results
from tests.fleet.work import Job, make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")


ONE_FILE = """
import os, pathlib
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "a.csv").write_text("a\\n1\\n")
"""


def test_uninstall_ends_the_jobs_pods_and_a_new_install_finds_everything(fleet: Fleet, namespace: str) -> None:
    make_app(
        fleet, namespace, "quick", "import os\nopen(os.environ['EDGEWISE_OUTPUTS'] + '/a.csv', 'w').write('a\\n1\\n')"
    )
    start(fleet, namespace, "done", "quick").until("Complete")
    make_app(fleet, namespace, "slow", "import time\ntime.sleep(600)")
    running = start(fleet, namespace, "running", "slow")
    running.until_phase("Running")

    uninstall(fleet)
    try:
        assert running.pods() == []
        left = fleet.kubectl("get", "pods", "--namespace", NAMESPACE, "--output=name").split()
        wait_until(
            lambda: not fleet.kubectl("get", "pods", "--namespace", NAMESPACE, "--output=name"),
            f"{left} gone",
            seconds=60,
        )
        claims = fleet.kubectl("get", "persistentvolumeclaims", "--namespace", NAMESPACE, "--output=name").split()
        assert claims == ["persistentvolumeclaim/edgewise-results"]
        assert Job(fleet, namespace, "done").phase() == "Succeeded"
    finally:
        install(fleet)

    with results(fleet, namespace) as reader:
        assert reader.file(namespace, "done", "a.csv") == b"a\n1\n"
    status = running.until_phase("Running", 120)
    assert status["attempts"][0]["outcome"] == "Disrupted"
