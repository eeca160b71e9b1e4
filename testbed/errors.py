"""The one error that the testbed raises on purpose.

Its text is a single line for a person: it names the object, what was wrong
with it, and what to do. The command line prints it and exits with 1.
"""


class FleetError(Exception):
    """A verb could not do what it was asked for; the message says why."""


class Hopeless(FleetError):
    """Waiting longer can't help; wait_until passes it on at once."""
