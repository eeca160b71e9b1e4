"""Sorts photographs into sharp and blurred ones and writes them to sharpness.csv, one row a photograph.

The limits are in limits.json beside this file, what they are compared with in the package `measures`.
"""

import csv
import importlib.util
import json
import os
import sys
from pathlib import Path

import cv2
from measures import contrast, sharpness

IMAGES = frozenset({".png", ".jpg", ".jpeg"})


def carried_photographs() -> Path:
    """The folder of photographs in the scikit-image package, which is not imported for that."""
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        sys.exit("sharpness: there is no scikit-image here: use the vision image")
    return Path(next(iter(package.submodule_search_locations)), "data")


def main() -> None:
    limits = json.loads(Path(__file__).with_name("limits.json").read_text())
    rows = []
    for path in sorted(carried_photographs().iterdir()):
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.suffix.lower() in IMAGES else None
        if pixels is None:
            continue
        measured = sharpness(pixels), contrast(pixels)
        good = measured[0] >= limits["sharpness"] and measured[1] >= limits["contrast"]
        rows.append((path.name, round(measured[0], 1), round(measured[1], 1), "sharp" if good else "blurred"))
    table = Path(os.environ["EDGEWISE_OUTPUTS"], "sharpness.csv")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("photo", "sharpness", "contrast", "verdict"))
        writer.writerows(rows)
    print(f"{len(rows)} photographs, {sum(row[3] == 'sharp' for row in rows)} of them sharp")


if __name__ == "__main__":
    main()
