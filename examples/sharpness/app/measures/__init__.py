"""What can be measured of one grey picture."""

import cv2
import numpy as np


def sharpness(pixels: np.ndarray) -> float:
    """The variance of the Laplacian: the more edges, and the harder they are, the larger."""
    return float(cv2.Laplacian(pixels, cv2.CV_64F).var())


def contrast(pixels: np.ndarray) -> float:
    """The standard deviation of the grey values, of 0 to 255."""
    return float(pixels.std())
