"""The fleet for tests on real devices: one for the whole run, taken as it is or started.

A failing test shows what the cluster and the devices said.
"""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from uuid import uuid4

import pluggy
import pytest

from testbed import Fleet, FleetError
from testbed.install import install

_TAIL_LINES = 15


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The running fleet; whoever runs the tests ends it."""
    fleet = Fleet()
    if not fleet.running:
        fleet.up()
    return fleet


@pytest.fixture(scope="session")
def edgewise(fleet: Fleet) -> None:
    """Edgewise of this checkout, installed into the fleet by Helm."""
    fleet.images()
    install(fleet)


@pytest.fixture
def namespace(fleet: Fleet) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid4().hex[:8]}"
    fleet.kubectl("create", "namespace", name)
    yield name
    fleet.kubectl("delete", "namespace", name, "--wait=false")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Adds the state of the fleet to the report of a test that failed."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and "fleet" in getattr(item, "fixturenames", ()):
        report.sections.extend(_fleet_says(Fleet()))


def _fleet_says(fleet: Fleet) -> Iterator[tuple[str, str]]:
    views: dict[str, Callable[[], str]] = {
        "devices": lambda: "\n".join(device.row() for device in fleet.status()),
        "pods": lambda: fleet.kubectl("get", "pods", "--all-namespaces", "--output=wide"),
        "events": lambda: _tail(fleet.kubectl("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp")),
    }
    for title, view in views.items():
        try:
            yield title, view()
        except FleetError as error:
            yield title, str(error)
    for name in fleet.devices():
        for file in fleet.logs(name):
            yield f"{name}: {file.name}", _tail(Path(file).read_text(errors="replace"))


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
