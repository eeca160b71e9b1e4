"""Generated protobuf messages of CSI v1 and of kubelet's plugin registration; README.md says how to regenerate."""
