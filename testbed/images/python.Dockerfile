# The testbed's base as an image of its own, for tests that need a shell, Python or sysbench in a pod.
ARG BASE
FROM ${BASE}
CMD ["python3"]
