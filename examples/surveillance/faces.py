"""Finds the faces in photographs and writes them to faces.csv, one row a face.

The photographs are those that scikit-image's wheel carries, and the images of every folder named with --photos. A
.npy file is a stack of grey stills, as a camera at a door takes them; each still is a photograph of its own.
"""

import argparse
import csv
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
CASCADE = "haarcascade_frontalface_default.xml"
COLUMNS = ("photo", "face", "x", "y", "width", "height", "score", "sharpness")

log = logging.getLogger("faces")


@dataclass(frozen=True, slots=True)
class Photo:
    """A grey picture, enlarged `scale` times and with a `border` around, so that a face that fills it can be found."""

    name: str
    pixels: np.ndarray
    scale: int = 1
    border: int = 0


@dataclass(frozen=True, slots=True)
class Face:
    """A rectangle in the pixels of the original picture. `score` is the cascade's confidence; higher is surer."""

    x: int
    y: int
    width: int
    height: int
    score: float
    sharpness: float


def carried_photographs() -> Path:
    """The folder of photographs in the scikit-image package, which is not imported for that."""
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        sys.exit("faces: there is no scikit-image here: use the vision image, or install requirements/vision.txt")
    return Path(next(iter(package.submodule_search_locations)), "data")


def photos_in(folder: Path, min_size: int) -> Iterator[Photo]:
    """Every photograph of `folder`, by name; what can't be read as one is logged and left out."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGES:
            pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if pixels is None:
                log.warning("%s can't be read as an image: it is left out", path)
                continue
            yield Photo(path.name, pixels)
        elif path.suffix.lower() == ".npy":
            yield from stills_in(path, min_size)


def stills_in(path: Path, min_size: int) -> Iterator[Photo]:
    """The stills of a stack, enlarged until one that a face fills has room for twice the smallest face."""
    stack = np.load(path, allow_pickle=False)
    if stack.ndim != 3 or 0 in stack.shape:
        log.warning("%s is no stack of grey stills: it is left out", path)
        return
    if stack.dtype != np.uint8:
        stack = np.clip(stack * 255, 0, 255).astype(np.uint8)
    scale = max(1, -(-2 * min_size // min(stack.shape[1:])))
    for number, still in enumerate(stack):
        larger = cv2.resize(still, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        border = min_size // 2
        framed = cv2.copyMakeBorder(larger, border, border, border, border, cv2.BORDER_REPLICATE)
        yield Photo(f"{path.stem}-{number:03d}", framed, scale, border)


def faces_in(photo: Photo, cascade: cv2.CascadeClassifier, wanted: argparse.Namespace) -> list[Face]:
    """The faces of one photograph, from top to bottom and left to right."""
    found, _, weights = cascade.detectMultiScale3(
        photo.pixels,
        scaleFactor=wanted.scale_factor,
        minNeighbors=wanted.neighbours,
        minSize=(wanted.min_size, wanted.min_size),
        outputRejectLevels=True,
    )
    faces = []
    for (x, y, width, height), score in zip(found, weights, strict=True):
        if score < wanted.min_score:
            continue
        sharpness = cv2.Laplacian(photo.pixels[y : y + height, x : x + width], cv2.CV_64F).var()
        faces.append(
            Face(
                x=max(0, int(x) - photo.border) // photo.scale,
                y=max(0, int(y) - photo.border) // photo.scale,
                width=int(width) // photo.scale,
                height=int(height) // photo.scale,
                score=round(float(score), 2),
                sharpness=round(float(sharpness), 1),
            )
        )
    return sorted(faces, key=lambda face: (face.y, face.x, face.width))


def write(path: Path, rows: list[tuple[object, ...]]) -> None:
    """Writes the table under another name first: what is called faces.csv is always whole."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faces", description="Finds faces in photographs.")
    parser.add_argument("--photos", type=Path, action="append", default=[], help="a folder of more photographs")
    parser.add_argument("--min-size", type=int, default=40, help="the smallest face, in pixels (40)")
    parser.add_argument("--min-score", type=float, default=1.5, help="the least confidence (1.5)")
    parser.add_argument("--scale-factor", type=float, default=1.05, help="from one size to the next, over 1 (1.05)")
    parser.add_argument("--neighbours", type=int, default=5, help="hits that must agree on a face (5)")
    given = parser.parse_args()
    if given.min_size < 10 or given.neighbours < 1 or not 1.01 <= given.scale_factor <= 2:
        parser.error("--min-size is at least 10, --neighbours at least 1, --scale-factor from 1.01 to 2")
    for folder in given.photos:
        if not folder.is_dir():
            parser.error(f"--photos {folder}: there is no such folder")
    return given


def main() -> None:
    wanted = arguments()
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "info").upper(), format="%(message)s", stream=sys.stdout)
    cv2.setNumThreads(1)  # one thread finds the same faces in the same order everywhere
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / CASCADE))
    rows: list[tuple[object, ...]] = []
    photos = 0
    for folder in (carried_photographs(), *wanted.photos):
        for photo in photos_in(folder, wanted.min_size):
            photos += 1
            faces = faces_in(photo, cascade, wanted)
            log.debug("%s: %d faces", photo.name, len(faces))
            for number, face in enumerate(faces, start=1):
                place = (face.x, face.y, face.width, face.height)
                rows.append((photo.name, number, *place, face.score, face.sharpness))
    target = Path(os.environ.get("EDGEWISE_OUTPUTS", "."), "faces.csv")
    write(target, rows)
    node = os.environ.get("EDGEWISE_NODE", "this machine")
    log.info("%d faces in %d photographs, found on %s: %s", len(rows), photos, node, target)


if __name__ == "__main__":
    main()
