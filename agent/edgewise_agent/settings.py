"""The agent's settings, read once from the environment; every one has bounds, and an error names what to change.

This module owns the names and defaults. It never reads a file and never changes the environment.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from edgewise_agent.uplink.pace import LEAST_BYTES_PER_SECOND
from edgewise_agent.wire import CSI_DRIVER

MIB: Final = 2**20
GIB: Final = 2**30
LONGEST_SOCKET_PATH: Final = 107
"""Bytes that a unix socket's path may have on Linux (108 with the terminating zero)."""


class SettingsError(ValueError):
    """The environment is not usable; the message has one line for each setting that is missing or wrong."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one agent runs with. Times are in seconds, sizes in bytes."""

    node_name: str
    operator_url: str
    gateway_url: str
    ca_file: Path
    token_file: Path
    beat_seconds: float = 10
    host_root: Path = Path("/host")
    kubelet_root: Path = Path("/var/lib/kubelet")
    pod_logs: Path = Path("/var/log/pods")
    """where kubelet keeps the logs of pods"""
    log_limit_bytes: int = MIB
    """how much of a container's log comes home with the results; 0 is nothing"""
    spool_limit_bytes: int = 2 * GIB
    """unsent results that the device holds before it takes no new volume"""
    free_space_floor_bytes: int = 256 * MIB
    """free space below which live volumes are reported as over their limit and no new one is handed out"""
    bundle_cache_bytes: int = GIB
    """bundles that the device keeps; those that volumes use are never let go"""
    upload_bytes_per_second: int = 0
    """how fast results may leave the device, over all connections; 0 is no limit"""
    upload_concurrency: int = 2
    """volumes that are sent at once"""
    benchmark_seconds: int = 3
    benchmark_interval_seconds: float = 86_400
    benchmark_idle_percent: float = 80
    """free CPU, in percent, from which the device counts as idle"""
    reconcile_seconds: float = 60
    measure_seconds: float = 5
    sync_seconds: float = 30
    """how often files in live volumes are forced to disk: what a power cut may cost an app that does not fsync"""
    clock_offset_seconds: float = 0
    """added to the agent's clock; only tests of wrong clocks set it"""
    http_port: int = 8080
    log_level: str = "INFO"

    @property
    def plugin_dir(self) -> Path:
        """The agent's own folder: sockets, journal, spool, the last benchmark. On the same filesystem as the pods."""
        return self.kubelet_root / "plugins" / CSI_DRIVER

    @property
    def plugin_socket(self) -> Path:
        """Where kubelet calls the CSI plugin."""
        return self.plugin_dir / "csi.sock"

    @property
    def registration_socket(self) -> Path:
        """Where kubelet finds out that there is a plugin."""
        return self.kubelet_root / "plugins_registry" / f"{CSI_DRIVER}-reg.sock"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read `EDGEWISE_*` variables.

        Raises `SettingsError` with every problem at once, one a line.
        """
        reader = _Reader(environment)
        settings = cls(
            node_name=reader.text("NODE_NAME", None, _name),
            operator_url=reader.text("OPERATOR_URL", None, _https_url),
            gateway_url=reader.text("GATEWAY_URL", None, _https_url),
            ca_file=reader.path("CA_FILE", None),
            token_file=reader.path("TOKEN_FILE", None),
            beat_seconds=reader.number("BEAT_SECONDS", cls.beat_seconds, 0.5, 3600),
            host_root=reader.path("HOST_ROOT", cls.host_root),
            kubelet_root=reader.path("KUBELET_ROOT", cls.kubelet_root),
            pod_logs=reader.path("POD_LOGS", cls.pod_logs),
            log_limit_bytes=reader.integer("LOG_LIMIT_BYTES", cls.log_limit_bytes, 0, 64 * MIB),
            spool_limit_bytes=reader.integer("SPOOL_LIMIT_BYTES", cls.spool_limit_bytes, MIB, 2**60),
            free_space_floor_bytes=reader.integer("FREE_SPACE_FLOOR_BYTES", cls.free_space_floor_bytes, 0, 2**60),
            bundle_cache_bytes=reader.integer("BUNDLE_CACHE_BYTES", cls.bundle_cache_bytes, 16 * MIB, 2**60),
            upload_bytes_per_second=reader.integer("UPLOAD_BYTES_PER_SECOND", cls.upload_bytes_per_second, 0, 2**40),
            upload_concurrency=reader.integer("UPLOAD_CONCURRENCY", cls.upload_concurrency, 1, 8),
            benchmark_seconds=reader.integer("BENCHMARK_SECONDS", cls.benchmark_seconds, 1, 60),
            benchmark_interval_seconds=reader.number(
                "BENCHMARK_INTERVAL_SECONDS", cls.benchmark_interval_seconds, 60, 366 * 86_400
            ),
            benchmark_idle_percent=reader.number("BENCHMARK_IDLE_PERCENT", cls.benchmark_idle_percent, 0, 100),
            reconcile_seconds=reader.number("RECONCILE_SECONDS", cls.reconcile_seconds, 1, 3600),
            measure_seconds=reader.number("MEASURE_SECONDS", cls.measure_seconds, 0.5, 3600),
            sync_seconds=reader.number("SYNC_SECONDS", cls.sync_seconds, 1, 86_400),
            clock_offset_seconds=reader.number("CLOCK_OFFSET_SECONDS", cls.clock_offset_seconds, -1e9, 1e9),
            http_port=reader.integer("HTTP_PORT", cls.http_port, 0, 65_535),
            log_level=reader.text("LOG_LEVEL", cls.log_level, _log_level).upper(),
        )
        if 0 < settings.upload_bytes_per_second < LEAST_BYTES_PER_SECOND:
            reader.problems.append(
                f"EDGEWISE_UPLOAD_BYTES_PER_SECOND is '{settings.upload_bytes_per_second}': must be 0 (no limit) or at "
                f"least {LEAST_BYTES_PER_SECOND}"
            )
        if not reader.problems:
            for socket in (settings.plugin_socket, settings.registration_socket):
                if len(bytes(socket)) > LONGEST_SOCKET_PATH:
                    reader.problems.append(
                        f"EDGEWISE_KUBELET_ROOT is too long: the socket {socket} has {len(bytes(socket))} bytes, "
                        f"Linux allows {LONGEST_SOCKET_PATH}"
                    )
        if reader.problems:
            raise SettingsError("\n".join(reader.problems))
        return settings


class _Reader:
    """Reads one variable after the other and gathers what is wrong, so that all of it is told at once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def text(self, name: str, default: str | None, wrong: Callable[[str], str | None]) -> str:
        value = self._environment.get(f"EDGEWISE_{name}", "").strip()
        if not value:
            if default is None:
                self.problems.append(f"EDGEWISE_{name} is not set: the agent can't run without it")
            return default or ""
        if problem := wrong(value):
            self.problems.append(f"EDGEWISE_{name} is {value!r}: {problem}")
        return value

    def path(self, name: str, default: Path | None) -> Path:
        return Path(self.text(name, None if default is None else str(default), _absolute))

    def number(self, name: str, default: float, least: float, most: float) -> float:
        raw = self.text(name, str(default), lambda _: None)
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            self.problems.append(f"EDGEWISE_{name} is {raw!r}: must be a number from {least:g} to {most:g}")
            return default
        return value

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        raw = self.text(name, str(default), lambda _: None)
        try:
            value = int(raw)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            self.problems.append(f"EDGEWISE_{name} is {raw!r}: must be a whole number from {least} to {most}")
            return default
        return value


def _name(value: str) -> str | None:
    return None if len(value) <= 253 else "a node's name has at most 253 characters"


def _absolute(value: str) -> str | None:
    return None if Path(value).is_absolute() else "must be an absolute path"


def _log_level(value: str) -> str | None:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    return None if value.upper() in levels else f"must be one of {', '.join(levels)}"


def _https_url(value: str) -> str | None:
    """Only HTTPS: the token in each request must not be readable on the way."""
    parts = urlsplit(value)
    if parts.scheme == "https" and parts.hostname and not parts.query and not parts.fragment:
        return None
    return "must be an address of the form https://host or https://host:port"
