"""Measures how far away things are in the pictures of a stereo camera, as a vehicle carries one.

Every pair NAME_left.png and NAME_right.png gives one row of distances.csv for each cell of a grid over the picture. The
pairs are those that scikit-image's wheel carries (a motorcycle in a garage, from the Middlebury 2014 benchmark, taken
with the camera that the defaults below describe), and those of every folder named with --pairs. Where there is a
NAME_disp.npz with measured disparities, the table says also how far off each distance is.
"""

import argparse
import csv
import importlib.util
import logging
import os
import sys
from pathlib import Path

import cv2
import numpy as np

COLUMNS = (
    "pair",
    "row",
    "column",
    "matched_percent",
    "nearest_m",
    "median_m",
    "measured_m",
    "error_percent",
    "alert",
)
BLOCK = 3
"""Side of the square of pixels that is looked for in the other picture."""

log = logging.getLogger("distances")


def carried_pictures() -> Path:
    """The folder of pictures in the scikit-image package, which is not imported for that."""
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        sys.exit("distances: there is no scikit-image here: use the vision image, or install requirements/vision.txt")
    return Path(next(iter(package.submodule_search_locations)), "data")


def picture(path: Path) -> np.ndarray:
    """A grey picture. Ends the program with one line if it can't be read."""
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        sys.exit(f"distances: {path} can't be read as a picture: remove the pair or mend it")
    return pixels


def disparities(left: np.ndarray, right: np.ndarray, most: int) -> np.ndarray:
    """How many pixels each point of the left picture is further left in the right one; NaN where none is sure."""
    matcher = cv2.StereoSGBM_create(
        minDisparity=0,
        numDisparities=-(-most // 16) * 16,
        blockSize=BLOCK,
        P1=8 * BLOCK**2,
        P2=32 * BLOCK**2,
        disp12MaxDiff=1,
        uniquenessRatio=5,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    found = matcher.compute(left, right).astype(np.float32) / 16
    found[found <= 0] = np.nan
    return found


def measured(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The disparities that were measured with another instrument, if the pair has them."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as archive:
        values = np.asarray(archive[archive.files[0]], dtype=np.float32)
    if values.shape != shape:
        sys.exit(f"distances: {path} has {values.shape} values for pictures of {shape} pixels: remove or mend it")
    return np.where(np.isfinite(values), values, np.nan)


def metres(pixels: np.ndarray, camera: argparse.Namespace) -> np.ndarray:
    """Distance from the disparity by similar triangles: focal length times baseline over the shift."""
    return camera.focal_px * camera.baseline_mm / 1000 / (pixels + camera.offset_px)


def cells(name: str, distance: np.ndarray, truth: np.ndarray | None, wanted: argparse.Namespace) -> list[list[object]]:
    """One row of the table for each cell of the grid, from the top left; empty where nothing was matched."""
    rows: list[list[object]] = []
    for row, band in enumerate(np.array_split(np.arange(distance.shape[0]), wanted.rows), start=1):
        for column, strip in enumerate(np.array_split(np.arange(distance.shape[1]), wanted.columns), start=1):
            here = np.ix_(band, strip)
            cell = distance[here]
            known = cell[np.isfinite(cell)]
            entry: list[object] = [name, row, column, round(100 * known.size / cell.size, 1)]
            if known.size == 0:
                rows.append([*entry, "", "", "", "", ""])
                continue
            nearest = float(np.percentile(known, 5))
            entry += [f"{nearest:.3f}", f"{float(np.median(known)):.3f}"]
            entry += (
                against(cell, truth[band[0] : band[-1] + 1, strip[0] : strip[-1] + 1])
                if truth is not None
                else ["", ""]
            )
            rows.append([*entry, "near" if nearest < wanted.alert_m else ""])
    return rows


def against(cell: np.ndarray, truth: np.ndarray) -> list[object]:
    """The measured distance of a cell and how far off, in percent, the middle one of its points is."""
    both = np.isfinite(cell) & np.isfinite(truth)
    if not both.any():
        return ["", ""]
    error = np.median(np.abs(cell[both] - truth[both]) / truth[both])
    return [f"{float(np.median(truth[both])):.3f}", f"{100 * float(error):.2f}"]


def write(path: Path, rows: list[list[object]]) -> None:
    """Writes the table under another name first: what is called distances.csv is always whole."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="distances", description="Measures distances with a stereo camera.")
    parser.add_argument("--pairs", type=Path, action="append", default=[], help="a folder of more pairs of pictures")
    parser.add_argument("--focal-px", type=float, default=994.978, help="focal length in pixels (994.978)")
    parser.add_argument("--baseline-mm", type=float, default=193.001, help="between the two lenses (193.001)")
    parser.add_argument("--offset-px", type=float, default=31.086, help="between the principal points (31.086)")
    parser.add_argument("--most-px", type=int, default=80, help="the largest disparity to look for (80)")
    parser.add_argument("--rows", type=int, default=4, help="of the grid (4)")
    parser.add_argument("--columns", type=int, default=6, help="of the grid (6)")
    parser.add_argument("--alert-m", type=float, default=2.2, help="nearer than this is marked (2.2)")
    given = parser.parse_args()
    if not (1 <= given.rows <= 100 and 1 <= given.columns <= 100 and 16 <= given.most_px <= 512):
        parser.error("--rows and --columns are from 1 to 100, --most-px from 16 to 512")
    if given.focal_px <= 0 or given.baseline_mm <= 0 or given.offset_px < 0:
        parser.error("--focal-px and --baseline-mm are over 0, --offset-px is at least 0")
    for folder in given.pairs:
        if not folder.is_dir():
            parser.error(f"--pairs {folder}: there is no such folder")
    return given


def main() -> None:
    wanted = arguments()
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "info").upper(), format="%(message)s", stream=sys.stdout)
    cv2.setNumThreads(1)  # one thread gives the same numbers everywhere
    rows: list[list[object]] = []
    pairs = 0
    for folder in (carried_pictures(), *wanted.pairs):
        for left_path in sorted(folder.glob("*_left.png")):
            name = left_path.name.removesuffix("_left.png")
            left, right = picture(left_path), picture(folder / f"{name}_right.png")
            if left.shape != right.shape:
                sys.exit(f"distances: the pictures of pair {name} in {folder} differ in size: mend the pair")
            truth = measured(folder / f"{name}_disp.npz", left.shape)
            distance = metres(disparities(left, right, wanted.most_px), wanted)
            rows += cells(name, distance, metres(truth, wanted) if truth is not None else None, wanted)
            pairs += 1
    target = Path(os.environ.get("EDGEWISE_OUTPUTS", "."), "distances.csv")
    write(target, rows)
    node = os.environ.get("EDGEWISE_NODE", "this machine")
    log.info("%d cells of %d pairs, measured on %s: %s", len(rows), pairs, node, target)


if __name__ == "__main__":
    main()
