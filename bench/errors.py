"""What ends a run."""


class BenchError(Exception):
    """The run can't go on; the message is one line that says why."""
