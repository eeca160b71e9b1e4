"""The part of Edgewise that runs on a device: it measures, reports, keeps output volumes and sends results home."""

from typing import Final

__version__: Final = "0.1.0"
"""The agent's version, as beats and CSI's plugin information carry it."""
