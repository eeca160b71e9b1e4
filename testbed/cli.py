"""The command line: `fleet VERB`. Each verb prints one line that says what it did."""

import sys

import click

from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.progress import say


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def fleet() -> None:
    """A real Kubernetes edge fleet on this machine."""


@fleet.command()
@click.option("--control-plane-only", is_flag=True, help="No nodes: enough for tests of the API.")
@click.option("--lease-seconds", default=40, show_default=True, help="Life of each kubelet's Lease.")
@click.option("--status-seconds", default=10, show_default=True, help="How often kubelets update their Node.")
def up(control_plane_only: bool, lease_seconds: int, status_seconds: int) -> None:
    """Build what is missing and start the fleet."""
    say(Fleet().up(lease_seconds=lease_seconds, status_seconds=status_seconds, control_plane_only=control_plane_only))


@fleet.command()
def down() -> None:
    """End the fleet and leave nothing behind."""
    say(Fleet().down())


def main() -> None:
    """Runs the command line; a FleetError becomes one line and exit code 1."""
    try:
        fleet.main(prog_name="fleet")
    except FleetError as error:
        click.echo(f"fleet: {error}", err=True)
        sys.exit(1)
