"""`python -m testbed VERB`."""

from testbed.cli import main

main()
