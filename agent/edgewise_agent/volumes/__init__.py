"""Output volumes: the CSI node plugin that kubelet calls, and the table of the volumes that the device holds."""
