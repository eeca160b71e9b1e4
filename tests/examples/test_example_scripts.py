"""The examples' scripts run for real: what they find is right, the same every time, and errors say what to do."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

from testbed import wait_until
from tests.examples.conftest import ROOT, RunExample


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_faces_are_found_where_there_are_some(run_example: RunExample, tmp_path: Path) -> None:
    ended = run_example("surveillance/faces.py", "--min-size", "40")
    assert ended.returncode == 0, ended.stderr
    faces = table(tmp_path / "faces.csv")
    assert f"{len(faces)} faces in 226 photographs, found on edge-1" in ended.stdout
    (astronaut,) = [face for face in faces if face["photo"] == "astronaut.png"]
    centre = (int(astronaut["x"]) + int(astronaut["width"]) // 2, int(astronaut["y"]) + int(astronaut["height"]) // 2)
    assert abs(centre[0] - 225) < 15
    assert abs(centre[1] - 115) < 15
    assert float(astronaut["score"]) > 3
    stills = {face["photo"] for face in faces if face["photo"].startswith("lfw_subset-")}
    portraits = {f"lfw_subset-{number:03d}" for number in range(100)}
    assert len(stills & portraits) > 90, "the first 100 stills are portraits"
    assert len(stills - portraits) < 5, "the others show no face"
    assert not {face["photo"] for face in faces} & {"moon.png", "rocket.jpg", "page.png", "brick.png", "grass.png"}


def test_more_photographs_can_be_given(run_example: RunExample, libraries: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(libraries / "skimage" / "data" / "astronaut.png", photos / "visitor.png")
    (photos / "broken.png").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("no photograph")
    arguments = ("--photos", str(photos), "--min-size", "80", "--scale-factor", "1.3")
    ended = run_example("surveillance/faces.py", *arguments)
    assert ended.returncode == 0, ended.stderr
    first = (tmp_path / "faces.csv").read_bytes()
    faces = [face["photo"] for face in table(tmp_path / "faces.csv")]
    assert faces.count("visitor.png") == faces.count("astronaut.png") == 1
    assert "broken.png can't be read as an image: it is left out" in ended.stdout
    run_example("surveillance/faces.py", *arguments)
    assert (tmp_path / "faces.csv").read_bytes() == first
    assert [path.name for path in tmp_path.glob("*.*")] == ["faces.csv"]


def test_distances_agree_with_those_measured(run_example: RunExample, tmp_path: Path) -> None:
    ended = run_example("vehicles/distances.py", "--rows", "6", "--columns", "8")
    assert ended.returncode == 0, ended.stderr
    cells = table(tmp_path / "distances.csv")
    assert "48 cells of 1 pairs, measured on edge-1" in ended.stdout
    assert [(cell["row"], cell["column"]) for cell in cells[:9]] == [
        *(("1", str(column)) for column in range(1, 9)),
        ("2", "1"),
    ]
    matched = [cell for cell in cells if float(cell["matched_percent"]) > 50]
    assert len(matched) > 36
    assert all(float(cell["error_percent"]) < 2 for cell in matched)
    assert all(2 < float(cell["nearest_m"]) <= float(cell["median_m"]) < 5.1 for cell in matched)
    assert {cell["alert"] for cell in cells} == {"", "near"}


def test_the_camera_decides_the_distance(run_example: RunExample, tmp_path: Path) -> None:
    assert run_example("vehicles/distances.py", "--rows", "1", "--columns", "1").returncode == 0
    (here,) = table(tmp_path / "distances.csv")
    wide = ("--baseline-mm", "386.002", "--alert-m", "100")
    assert run_example("vehicles/distances.py", "--rows", "1", "--columns", "1", *wide).returncode == 0
    (twice,) = table(tmp_path / "distances.csv")
    assert abs(float(twice["median_m"]) - 2 * float(here["median_m"])) < 0.002
    assert (here["alert"], twice["alert"]) == ("", "near")


def test_wrong_arguments_are_named(run_example: RunExample, tmp_path: Path) -> None:
    for script, arguments, line in (
        ("surveillance/faces.py", ("--photos", str(tmp_path / "none")), "there is no such folder"),
        ("surveillance/faces.py", ("--min-size", "1"), "--min-size is at least 10"),
        ("vehicles/distances.py", ("--rows", "0"), "--rows and --columns are from 1 to 100"),
        ("vehicles/distances.py", ("--pairs", str(tmp_path / "none")), "there is no such folder"),
    ):
        ended = run_example(script, *arguments)
        assert ended.returncode == 2
        assert line in ended.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_photographs_are_sorted_by_what_the_bundle_says(run_example: RunExample, tmp_path: Path) -> None:
    ended = run_example("sharpness/app/main.py")
    assert ended.returncode == 0, ended.stderr
    rows = table(tmp_path / "sharpness.csv")
    verdicts = {row["verdict"] for row in rows}
    assert verdicts == {"sharp", "blurred"}
    assert all(
        (row["verdict"] == "sharp") == (float(row["sharpness"]) >= 100 and float(row["contrast"]) >= 20) for row in rows
    )


def test_a_meter_closes_file_after_file_and_keeps_the_newest(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/meter/meter.py"), "--every-seconds=0.05", "--file-seconds=0.3"]
    environment = {"EDGEWISE_OUTPUTS": str(tmp_path), "EDGEWISE_NODE": "edge-1"}
    seen: set[Path] = set()
    with subprocess.Popen([*command, "--keep-files=2"], env=environment) as meter:

        def closed() -> bool:
            seen.update(tmp_path.glob("*.csv"))
            return len(seen) >= 4

        wait_until(closed, "the meter closes files", seconds=30)
        meter.terminate()
        assert meter.wait(timeout=10) == 0
    left = sorted(tmp_path.iterdir())
    assert [path.suffix for path in left] == [".csv", ".csv"], "what was begun is closed, and the newest are kept"
    assert min(seen) not in left
    rows = [row for path in left for row in table(path)]
    assert rows == sorted(rows, key=lambda row: row["time"])
    for row in rows:
        assert row["node"] == "edge-1"
        assert 0 <= float(row["busy_percent"]) <= 100
        assert 0 < float(row["memory_percent"]) < 100
