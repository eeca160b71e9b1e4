"""The fleet: one for the whole run, taken as it is or started, and then ended again.

A failing test shows what the cluster and the devices said. With two processes (`make test`), one has all tests of the
fleet, in their order; the other has the rest, and gives way, since tests of the fleet measure times. Tests that need no
more than an API server have one of their own, so that they run beside the fleet's.
"""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pluggy
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from testbed import Fleet, FleetError
from testbed.apiserver import api_server
from tests.figures import Figures, taken

SOAK = int(os.environ.get("EDGEWISE_SOAK", "0"))
"""How many examples `make soak` draws anew; else they are the same in each run: a change fails by what it does."""

settings.register_profile("edgewise", deadline=None, derandomize=not SOAK)  # how long one takes is the machine's affair
settings.load_profile("edgewise")

_TAIL_LINES = 15
_WORKER = "PYTEST_XDIST_WORKER" in os.environ
_PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)
_FLEET = "tests/fleet/"
"""Where tests may need the fleet."""
_API_SERVER = ("tests/api/", "tests/chart/", "tests/control/", "tests/examples/")
"""Where tests may need an API server."""
_GIVES_WAY = 10
"""By how much the niceness of what is no test of the fleet is raised."""


class _OneOfEach(LoadScopeScheduling):  # type: ignore[misc] # the library is untyped
    """Deals the tests out by file, but all that may need the fleet to one process, and the API server likewise."""

    def _split_scope(self, nodeid: str) -> str:
        shared = _FLEET if nodeid.startswith(_FLEET) else "API server" if nodeid.startswith(_API_SERVER) else None
        return shared or nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Has tests dealt out so, in the order in which they are collected."""
    config.option.loadscopereorder = False
    return _OneOfEach(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what takes longest first, and refuses a test that is where nobody expects what it needs."""
    for fixture, folders in (("fleet", (_FLEET,)), ("kubeconfig", _API_SERVER)):
        astray = [one.nodeid for one in items if _needs(one, fixture) and not one.nodeid.startswith(folders)]
        if astray:
            raise pytest.UsageError(f"what needs `{fixture}` is below {', '.join(folders)}: move {', '.join(astray)}")
    if _WORKER:
        items.sort(key=lambda item: (not item.nodeid.startswith(_FLEET), not item.nodeid.startswith(_API_SERVER)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Lets a test that runs beside tests of the fleet give way to them."""
    if _WORKER:
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY if item.nodeid.startswith(_FLEET) else _PRIORITY + _GIVES_WAY)
    return (yield)


def _needs(item: pytest.Item, fixture: str) -> bool:
    return isinstance(item, pytest.Function) and fixture in item.fixturenames


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes what a test has measured, for the table at the end of the run."""
    return Figures(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows the figures."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    called = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "call"]
    if figures := [figure for report in called for figure in taken(report.user_properties)]:
        terminalreporter.section("figures")
        for figure in figures:
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
def programs() -> None:
    """kubectl, helm and Kubernetes' own, built and in .testbed/bin."""
    Fleet().build()


@pytest.fixture(scope="session")
def kubeconfig(programs: None) -> Iterator[Path]:
    """What reaches an API server that has no devices, with an administrator's rights."""
    with api_server() as path:
        yield path


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
