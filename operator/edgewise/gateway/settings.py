"""The gateway's settings, read once from the environment. Owns their names, defaults and bounds; reads no file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from edgewise.gateway.quota import quota_bytes
from edgewise.notation import parse_duration

BUNDLE_BYTES = 256 * 1024 * 1024
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingError(ValueError):
    """A setting is missing or out of bounds; the text names the variable and what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the gateway keeps results, whom it listens to and whom it tells."""

    namespace: str
    """Edgewise's own namespace: the agents' ServiceAccount is in it."""
    data_dir: Path
    """The results volume. Nothing else writes there."""
    tls_dir: Path
    """Holds tls.crt and tls.key; they may appear later and change at any time."""
    ca_file: Path
    """The CA that the operator's certificate is checked against."""
    token_file: Path
    """The ServiceAccount token that the gateway shows to the operator; read for every request, as kubelet renews it."""
    operator_url: str
    """Where finished manifests are announced, without a trailing slash."""
    agent_service_account: str
    https_port: int
    """0 lets the system choose."""
    http_port: int
    """Plain HTTP for probes and metrics; 0 lets the system choose."""
    attempts_kept: timedelta | None
    """How long the files of attempts are kept that are not their job's results; None: for ever."""
    namespace_quota: int | None
    """How many bytes of results a namespace may keep whose annotation does not say; None: no limit."""
    bundle_limit: int = BUNDLE_BYTES
    """How many bytes the files of one bundle may have."""
    bundles_kept: timedelta | None = timedelta(days=7)
    """How long a bundle is kept that no EdgeApp names; None: for ever."""
    log_level: str
    kubeconfig: Path | None
    """None: the configuration that Kubernetes gives to pods."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings that `environment` asks for.

        Raises `SettingError` for a variable that is missing or has a value out of its bounds.
        """
        kubeconfig = environment.get("KUBECONFIG", "")
        return cls(
            namespace=_required(environment, "EDGEWISE_NAMESPACE"),
            data_dir=Path(environment.get("EDGEWISE_DATA_DIR", "/var/lib/edgewise")),
            tls_dir=Path(environment.get("EDGEWISE_TLS_DIR", "/etc/edgewise/tls")),
            ca_file=Path(environment.get("EDGEWISE_CA_FILE", "/etc/edgewise/ca/ca.crt")),
            token_file=Path(environment.get("EDGEWISE_TOKEN_FILE", "/var/run/secrets/edgewise/token")),
            operator_url=_url(environment, "EDGEWISE_OPERATOR_URL"),
            agent_service_account=environment.get("EDGEWISE_AGENT_SERVICE_ACCOUNT", "edgewise-agent"),
            https_port=_port(environment, "EDGEWISE_HTTPS_PORT", 8443),
            http_port=_port(environment, "EDGEWISE_HTTP_PORT", 8080),
            attempts_kept=_duration(environment, "EDGEWISE_ATTEMPTS_KEPT", "7d"),
            namespace_quota=_quantity(environment, "EDGEWISE_NAMESPACE_QUOTA"),
            bundle_limit=_quantity(environment, "EDGEWISE_BUNDLE_LIMIT") or BUNDLE_BYTES,
            bundles_kept=_duration(environment, "EDGEWISE_BUNDLES_KEPT", "7d"),
            log_level=_log_level(environment, "EDGEWISE_LOG_LEVEL"),
            kubeconfig=Path(kubeconfig) if kubeconfig else None,
        )


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingError(f"{name} is not set: the chart sets it; outside a cluster, export it before the start")
    return value


def _url(environment: Mapping[str, str], name: str) -> str:
    value = _required(environment, name).rstrip("/")
    if not value.startswith(("https://", "http://")):
        raise SettingError(f"{name} is {value!r}: give an address that starts with https://")
    return value


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, str(default))
    if not value.isascii() or not value.isdigit() or int(value) > 65535:
        raise SettingError(f"{name} is {value!r}: give a port from 0 to 65535")
    return int(value)


def _duration(environment: Mapping[str, str], name: str, default: str) -> timedelta | None:
    value = environment.get(name, default)
    try:
        return None if value == "Forever" else parse_duration(value)
    except ValueError:
        raise SettingError(f"{name} is {value!r}: give a time such as 12h or 7d, or Forever") from None


def _quantity(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "")
    try:
        return quota_bytes(value) if value else None
    except ValueError:
        raise SettingError(f"{name} is {value!r}: give a size such as 10Gi, or nothing for no limit") from None


def _log_level(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "INFO").upper()
    if value not in LOG_LEVELS:
        raise SettingError(f"{name} is {value!r}: give one of {', '.join(LOG_LEVELS)}")
    return value
