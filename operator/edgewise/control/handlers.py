"""What kopf calls: thin decorators that hand each event of our own kinds to the world, and do nothing else."""

from typing import Any

import kopf

from edgewise.api import GROUP, KINDS, VERSION
from edgewise.control.world import World


def register(registry: kopf.OperatorRegistry, world: World) -> None:
    """Have kopf watch every kind of ours for `world`."""
    for kind in KINDS:

        async def handle(event: kopf.RawEvent, plural: str = kind.plural, **_: Any) -> None:
            world.told(plural, event["type"], event["object"])

        kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)(handle)
