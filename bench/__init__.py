"""`make bench`: the same work for Edgewise and for plain Kubernetes, side by side in one run on the testbed."""
