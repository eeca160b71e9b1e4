"""Settings come from the environment, within bounds, and every problem is told at once."""

from pathlib import Path

import pytest
from edgewise_agent.settings import Settings, SettingsError

NEEDED = {
    "EDGEWISE_NODE_NAME": "edge-1",
    "EDGEWISE_OPERATOR_URL": "https://edgewise-beats.edgewise-system.svc",
    "EDGEWISE_GATEWAY_URL": "https://edgewise-gateway.edgewise-system.svc",
    "EDGEWISE_CA_FILE": "/etc/edgewise/ca/ca.crt",
    "EDGEWISE_TOKEN_FILE": "/var/run/secrets/edgewise/token",
}


def test_defaults() -> None:
    settings = Settings.from_environment(NEEDED)
    assert settings.beat_seconds == 10
    assert settings.host_root == Path("/host")
    assert settings.benchmark_interval_seconds == 86_400
    assert settings.clock_offset_seconds == 0
    assert (settings.upload_bytes_per_second, settings.upload_concurrency) == (0, 2)
    assert settings.http_port == 8080
    assert settings.plugin_socket == Path("/var/lib/kubelet/plugins/outputs.edgewise.dev/csi.sock")
    assert settings.registration_socket == Path("/var/lib/kubelet/plugins_registry/outputs.edgewise.dev-reg.sock")


def test_given_values() -> None:
    given = {"BEAT_SECONDS": "2.5", "KUBELET_ROOT": "/k", "SPOOL_LIMIT_BYTES": "5000000", "CLOCK_OFFSET_SECONDS": "-90"}
    settings = Settings.from_environment(NEEDED | {f"EDGEWISE_{name}": value for name, value in given.items()})
    assert (settings.beat_seconds, settings.kubelet_root, settings.spool_limit_bytes) == (2.5, Path("/k"), 5_000_000)
    assert settings.clock_offset_seconds == -90


@pytest.mark.parametrize("name", NEEDED)
def test_each_needed_one_is_missed(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        Settings.from_environment({key: value for key, value in NEEDED.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("BEAT_SECONDS", "0", "must be a number from 0.5 to 3600"),
        ("BEAT_SECONDS", "nan", "must be a number from 0.5 to 3600"),
        ("BEAT_SECONDS", "soon", "must be a number from 0.5 to 3600"),
        ("SPOOL_LIMIT_BYTES", "1Gi", "must be a whole number"),
        ("SPOOL_LIMIT_BYTES", "-1", "must be a whole number"),
        ("BENCHMARK_IDLE_PERCENT", "101", "must be a number from 0 to 100"),
        ("BENCHMARK_SECONDS", "0", "must be a whole number from 1 to 60"),
        ("UPLOAD_BYTES_PER_SECOND", "-1", "must be a whole number from 0"),
        ("UPLOAD_BYTES_PER_SECOND", "1023", "must be 0 (no limit) or at least 1024"),
        ("LOG_LIMIT_BYTES", "67108865", "must be a whole number from 0 to 67108864"),
        ("POD_LOGS", "pods", "must be an absolute path"),
        ("UPLOAD_CONCURRENCY", "0", "must be a whole number from 1 to 8"),
        ("UPLOAD_CONCURRENCY", "9", "must be a whole number from 1 to 8"),
        ("HTTP_PORT", "65536", "must be a whole number from 0 to 65535"),
        ("KUBELET_ROOT", "var/lib/kubelet", "must be an absolute path"),
        ("KUBELET_ROOT", "/" + "long/" * 20, "too long: the socket"),
        ("OPERATOR_URL", "http://edgewise-beats", "must be an address of the form https://"),
        ("GATEWAY_URL", "edgewise-gateway", "must be an address of the form https://"),
        ("LOG_LEVEL", "LOUD", "must be one of DEBUG"),
    ],
)
def test_out_of_bounds(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as problem:
        Settings.from_environment(NEEDED | {f"EDGEWISE_{name}": value})
    assert str(problem.value).startswith(f"EDGEWISE_{name} is ")
    assert told in str(problem.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(SettingsError) as problem:
        Settings.from_environment({"EDGEWISE_BEAT_SECONDS": "-1", "EDGEWISE_HTTP_PORT": "x"})
    assert len(str(problem.value).splitlines()) == len(NEEDED) + 2
