"""The fleet: one for the whole run, taken as it is or started, and then ended again.

A failing test shows what the cluster and the devices said.
"""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pluggy
import pytest
from hypothesis import settings

from testbed import Fleet, FleetError, paths
from tests.figures import Figures

SOAK = int(os.environ.get("EDGEWISE_SOAK", "0"))
"""How many examples `make soak` draws anew; else they are the same in each run: a change fails by what it does."""

settings.register_profile("edgewise", deadline=None, derandomize=not SOAK)  # how long one takes is the machine's affair
settings.load_profile("edgewise")

_TAIL_LINES = 15
_FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    """Begins an empty table of figures."""
    config.stash[_FIGURES] = Figures()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes what a test has measured, for the table at the end of the run."""
    return request.config.stash[_FIGURES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Shows the figures."""
    if taken := config.stash[_FIGURES].taken:
        terminalreporter.section("figures")
        for figure in taken:
            terminalreporter.line(figure.line())


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The fleet. One that was not running before the tests does not run after them."""
    fleet = Fleet()
    ran_before = fleet.running
    fleet.up()
    yield fleet
    if not ran_before:
        fleet.down()


@pytest.fixture(scope="session")
def kubeconfig(fleet: Fleet) -> Path:
    """What reaches the fleet's API server."""
    return paths.KUBECONFIG


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Adds the state of the fleet to the report of a test of devices that failed."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and "fleet" in item.path.parent.parts:
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
    for name in _devices(fleet):
        try:
            files = fleet.logs(name)
        except FleetError:  # a device that never ran has none
            continue
        for file in files:
            yield f"{name}: {file.name}", _tail(Path(file).read_text(errors="replace"))


def _devices(fleet: Fleet) -> list[str]:
    """The names of the devices; none where the views above have told why the fleet is not ours to look at."""
    try:
        return list(fleet.devices())
    except FleetError:
        return []


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
