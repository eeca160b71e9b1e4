"""helm and a real API server for the tests of the chart."""

from pathlib import Path

import pytest
from edgewise.api.generate import find_helm

from tests.api.conftest import cluster
from tests.chart.rendering import Helm

__all__ = ["cluster", "helm"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def helm(programs: None) -> Helm:
    """helm, at work on the chart of this checkout."""
    path = find_helm(ROOT)
    if path is None:
        pytest.fail("helm is neither in .testbed/bin nor on PATH: run `make up` or install helm 3", pytrace=False)
    return Helm(Path(path), ROOT / "charts/edgewise")
