"""Fields of the contract that this version does not act on. They are reported, never silently ignored.

A line goes when the work that acts on its field lands.
"""

from edgewise.api import EdgeAppSpec, EdgeNodeSpec


def in_app(app: EdgeAppSpec) -> str | None:
    """What of an EdgeApp is not acted on, as a sentence with the remedy; None: nothing."""
    if app.inputs:
        return "spec.inputs is not supported yet: remove it, and bring the data in the image or a ConfigMap"
    if app.requires.devices:
        return "spec.requires.devices is not supported yet: remove it, and select devices by spec.requires.nodeSelector"
    return None


def in_node(node: EdgeNodeSpec) -> str | None:
    """What of an EdgeNode is not acted on, as a sentence; None: nothing."""
    if node.devices:
        return "spec.devices is not supported yet: no job can ask for them"
    if node.data:
        return "spec.data is not supported yet: no job can mount it"
    return None
