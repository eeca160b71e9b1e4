"""Edgewise on the fleet, and a namespace for each test.

An agent measures its device's speed when it starts, and beside other tests that figure can be far too low. So tests
that restart agents come after those that rely on which device is fastest: they are called test_results_* and
test_source_*.
"""

from collections.abc import Iterator

import pytest

from testbed import Fleet
from testbed.install import install
from tests.fleet.pods import fresh_namespace


@pytest.fixture(scope="session")
def edgewise(fleet: Fleet) -> None:
    """Edgewise of this checkout, installed into the fleet by Helm."""
    fleet.images()
    install(fleet)


@pytest.fixture
def namespace(fleet: Fleet) -> Iterator[str]:
    """A namespace of the test's own."""
    with fresh_namespace(fleet) as name:
        yield name
