"""A real Kubernetes edge fleet on one Linux machine, without Docker."""
