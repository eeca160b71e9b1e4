"""How kubelet learns of the plugin: the answers on the socket that it finds in its plugins_registry folder.

This module owns whether kubelet has accepted the plugin, nothing else.
"""

import logging
from collections.abc import Mapping

from grpclib.const import Handler

from edgewise_agent.settings import Settings
from edgewise_agent.volumes.csi import unary
from edgewise_agent.volumes.proto import registration_pb2 as registration
from edgewise_agent.wire import CSI_DRIVER

_log = logging.getLogger(__name__)


class RegistrationService:
    """kubelet's Registration: what the plugin is and where it listens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.registered: bool | None = None
        """kubelet's verdict; None while it has not given one."""

    async def get_info(self, _: registration.InfoRequest) -> registration.PluginInfo:
        return registration.PluginInfo(
            type="CSIPlugin",
            name=CSI_DRIVER,
            endpoint=str(self._settings.plugin_socket),
            supported_versions=["1.0.0"],
        )

    async def notify(self, status: registration.RegistrationStatus) -> registration.RegistrationStatusResponse:
        """Take in kubelet's verdict."""
        self.registered = status.plugin_registered
        if status.plugin_registered:
            _log.info("kubelet has registered %s", CSI_DRIVER)
        else:
            _log.error("kubelet does not register %s, so no job can start here: %s", CSI_DRIVER, status.error)
        return registration.RegistrationStatusResponse()

    def __mapping__(self) -> Mapping[str, Handler]:
        prefix = "/pluginregistration.Registration"
        return {
            f"{prefix}/GetInfo": unary(self.get_info, registration.InfoRequest, registration.PluginInfo),
            f"{prefix}/NotifyRegistrationStatus": unary(
                self.notify, registration.RegistrationStatus, registration.RegistrationStatusResponse
            ),
        }
