"""`python -m edgewise.api.generate`, on a copy of the repository's chart."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from edgewise.api import KINDS
from edgewise.api.generate import crd_files, find_helm

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the generated files are made from, and helm on PATH."""
    helm = find_helm(ROOT)
    if helm is None:
        pytest.fail("helm is neither in .testbed/bin nor on PATH: run `make up` or install helm 3", pytrace=False)
    monkeypatch.setenv("PATH", f"{Path(helm).parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'operator'}:{ROOT / 'agent'}")
    shutil.copytree(ROOT / "charts", tmp_path / "charts")
    return tmp_path


def generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the generator on a folder."""
    command = [sys.executable, "-m", "edgewise.api.generate", "--root", str(root), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_what_is_checked_in_is_what_would_be_generated(programs: None) -> None:
    assert generate(ROOT, "--check").returncode == 0, generate(ROOT, "--check").stdout


def test_writes_once_and_then_finds_nothing_to_do(checkout: Path) -> None:
    assert generate(checkout, "--check").returncode == 1
    assert generate(checkout).returncode == 0
    checked = generate(checkout, "--check")
    assert (checked.returncode, checked.stdout) == (0, "")
    for path, text in crd_files().items():
        assert (checkout / path).read_text() == text
    objects = list(yaml.safe_load_all((checkout / "manifests/install.yaml").read_text()))
    kinds = [found["kind"] for found in objects]
    definitions = len(KINDS)
    assert kinds[: definitions + 1] == ["CustomResourceDefinition"] * definitions + ["Namespace"]
    assert {"Deployment", "DaemonSet", "CSIDriver", "PersistentVolumeClaim"} <= set(kinds)
    assert "Job" not in kinds, "hooks are helm's: kubectl would run them at once"


def test_shows_what_differs(checkout: Path) -> None:
    generate(checkout)
    changed = checkout / "crds/edgejobs.edgewise.dev.yaml"
    changed.write_text(changed.read_text().replace("maximum: 100\n", "maximum: 99\n"))
    (checkout / "crds/edgegadgets.edgewise.dev.yaml").write_text("")
    (checkout / "charts/edgewise/crds/edgeapps.edgewise.dev.yaml").unlink()
    checked = generate(checkout, "--check")
    assert checked.returncode == 1
    assert "crds/edgejobs.edgewise.dev.yaml (found)" in checked.stdout
    assert "-                    maximum: 99" in checked.stdout
    assert "charts/edgewise/crds/edgeapps.edgewise.dev.yaml (generated)" in checked.stdout
    assert "crds/edgegadgets.edgewise.dev.yaml: nothing generates it" in checked.stdout
    assert checked.stdout.rstrip().endswith("3 files differ: run `make generate`")


def test_says_why_a_chart_can_not_be_rendered(checkout: Path) -> None:
    (checkout / "charts/edgewise/templates/broken.yaml").write_text("{{ fail `this chart is broken` }}")
    run = generate(checkout)
    assert run.returncode == 1
    assert "charts/edgewise can't be rendered" in run.stderr
    assert "this chart is broken" in run.stderr


def test_says_where_it_must_run(tmp_path: Path) -> None:
    run = generate(tmp_path)
    assert run.returncode == 2
    assert f"{tmp_path} has no charts/edgewise" in run.stderr
