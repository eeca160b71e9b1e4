"""Edgewise on the fleet, and a namespace for each test."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from testbed import Fleet
from testbed.install import install


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
