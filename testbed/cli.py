"""The command line: `fleet VERB`. Each verb prints one line that says what it did."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import click

from testbed import paths
from testbed.controlplane import require_running
from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.progress import say
from testbed.settings import parse_bytes, parse_percent
from testbed.status import HEADING


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def fleet() -> None:
    """A real Kubernetes edge fleet on this machine."""


@fleet.command()
@click.option("--control-plane-only", is_flag=True, help="No nodes: enough for tests of the API.")
@click.option("--no-images", is_flag=True, help="Leave the product's images alone.")
@click.option("--lease-seconds", type=int, help="Life of each kubelet's Lease (40).")
@click.option("--status-seconds", type=int, help="How often kubelets update their Node (10).")
def up(control_plane_only: bool, no_images: bool, lease_seconds: int | None, status_seconds: int | None) -> None:
    """Build what is missing and start the fleet."""
    say(
        Fleet().up(
            lease_seconds=lease_seconds,
            status_seconds=status_seconds,
            control_plane_only=control_plane_only,
            images=not no_images,
        )
    )


@fleet.command()
def down() -> None:
    """End the fleet and leave nothing behind."""
    say(Fleet().down())


@fleet.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show every device; exit with 1 when the fleet is down."""
    rows = Fleet().status()
    if as_json:
        say(json.dumps([asdict(row) for row in rows]))
        return
    if not rows:
        raise FleetError("the fleet is down: start it with `make up` or `fleet up`")
    for line in (HEADING, *(row.row() for row in rows)):
        say(line)


@fleet.command()
@click.argument("name")
@click.option("--quota", default="100%", show_default=True, help="CPU bound in percent of one core.")
@click.option("--memory", default="2Gi", show_default=True)
@click.option("--disk", default="8Gi", show_default=True, help="Another size takes longer: it starts empty.")
@click.option("--lease-seconds", type=int, help="Life of its kubelet's Lease (the hub's).")
@click.option("--status-seconds", type=int, help="How often its kubelet updates its Node (the hub's).")
def add(name: str, quota: str, memory: str, disk: str, lease_seconds: int | None, status_seconds: int | None) -> None:
    """Add an edge device."""
    say(
        Fleet().add(
            name,
            quota_percent=parse_percent(quota),
            memory_bytes=parse_bytes(memory),
            disk_bytes=parse_bytes(disk),
            lease_seconds=lease_seconds,
            status_seconds=status_seconds,
        )
    )


@fleet.command()
@click.argument("device")
def remove(device: str) -> None:
    """Remove an edge device, its Node and its disk."""
    say(Fleet().remove(device))


@fleet.command("power-off")
@click.argument("device")
def power_off(device: str) -> None:
    """Cut a device's power; what it did not sync is lost."""
    say(Fleet().power_off(device))


@fleet.command("power-on")
@click.argument("device")
@click.option("--no-wait", is_flag=True, help="Don't wait until the Node is Ready.")
def power_on(device: str, no_wait: bool) -> None:
    """Boot a device."""
    say(Fleet().power_on(device, wait=not no_wait))


@fleet.command()
@click.argument("device")
def unplug(device: str) -> None:
    """Pull a device's network cable."""
    say(Fleet().unplug(device))


@fleet.command()
@click.argument("device")
def plug(device: str) -> None:
    """Plug a device's network cable in."""
    say(Fleet().plug(device))


@fleet.command()
@click.argument("device")
def hang(device: str) -> None:
    """Stop all processes of a device where they are."""
    say(Fleet().hang(device))


@fleet.command()
@click.argument("device")
def unhang(device: str) -> None:
    """Let a device that hangs go on."""
    say(Fleet().resume(device))


@fleet.command()
@click.argument("component")
def stall(component: str) -> None:
    """Stop a component of the control plane where it is: stall etcd."""
    say(Fleet().stall(component))


@fleet.command()
@click.argument("component")
def unstall(component: str) -> None:
    """Let a component that stalls go on."""
    say(Fleet().unstall(component))


@fleet.command()
@click.argument("component")
def kill(component: str) -> None:
    """End a component of the control plane, or a pod's containers: kill etcd, kill NAMESPACE/POD."""
    namespace, slash, pod = component.partition("/")
    say(Fleet().kill_pod(namespace, pod) if slash else Fleet().kill(component))


@fleet.command()
def start() -> None:
    """Start what of the control plane does not run."""
    say(Fleet().start())


@fleet.command(context_settings={"ignore_unknown_options": True})
@click.argument("device")
@click.argument("celsius", type=float)
def heat(device: str, celsius: float) -> None:
    """Set a device's temperature: heat edge-1 90."""
    say(Fleet().heat(device, celsius))


@fleet.command()
@click.argument("device")
@click.argument("percent")
def quota(device: str, percent: str) -> None:
    """Bound a device's CPU: quota edge-3 10%."""
    say(Fleet().quota(device, parse_percent(percent)))


@fleet.command()
@click.argument("device")
@click.argument("percent")
def fill(device: str, percent: str) -> None:
    """Fill a device's disk: fill edge-2 95%; 0% frees it."""
    say(Fleet().fill(device, parse_percent(percent)))


@fleet.command()
@click.argument("name", required=False)
@click.option("--lines", default=40, show_default=True, help="Last lines of each file.")
@click.option("--follow", "-f", is_flag=True)
def logs(name: str | None, lines: int, follow: bool) -> None:
    """Show the logs of a device or a component (all components without a name)."""
    files = [file for part in ([name] if name else _components()) for file in Fleet().logs(part)]
    words = ["tail", f"--lines={lines}", *(["--follow"] if follow else []), *map(str, files)]
    sys.exit(subprocess.run(words, check=False).returncode)


@fleet.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(arguments: tuple[str, ...]) -> None:
    """Run kubectl against the fleet."""
    require_running()
    program = str(paths.BIN / "kubectl")
    os.execve(program, [program, *arguments], {**os.environ, "KUBECONFIG": str(paths.KUBECONFIG)})  # noqa: S606


@fleet.command()
def build() -> None:
    """Build the programs only."""
    say(Fleet().build())


@fleet.command()
def images() -> None:
    """Build the images and load them into the running devices."""
    say(Fleet().images())


@fleet.command()
def load() -> None:
    """Load the built images into devices that lack them."""
    say(Fleet().load())


def _components() -> list[str]:
    return sorted(file.stem for file in paths.LOGS.glob("*.log"))


def main() -> None:
    """Runs the command line; a FleetError becomes one line and exit code 1."""
    try:
        fleet.main(prog_name="fleet")
    except FleetError as error:
        click.echo(f"fleet: {error}", err=True)
        sys.exit(1)
