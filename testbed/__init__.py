"""A real Kubernetes edge fleet on one Linux machine, without Docker.

`Fleet` is the Python side of the command line `fleet`; `wait_until` waits for a
condition with a deadline. Both raise `FleetError` with one line for a person.
"""

from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.waiting import wait_until

__all__ = ["Fleet", "FleetError", "wait_until"]
