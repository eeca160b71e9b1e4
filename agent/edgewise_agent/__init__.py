"""The part of Edgewise that runs on a device: it measures, reports, keeps output volumes and sends results home."""
