"""Settings: what the chart sets is taken, and a wrong one is named with what it should be."""

from datetime import timedelta
from pathlib import Path

import pytest
from edgewise.gateway.settings import SettingError, Settings

GIVEN = {
    "EDGEWISE_NAMESPACE": "edgewise-system",
    "EDGEWISE_OPERATOR_URL": "https://edgewise-beats.edgewise-system.svc/",
}


def test_defaults_are_those_of_the_chart() -> None:
    settings = Settings.from_environment(GIVEN)
    assert settings.data_dir == Path("/var/lib/edgewise")
    assert settings.tls_dir == Path("/etc/edgewise/tls")
    assert settings.operator_url == "https://edgewise-beats.edgewise-system.svc"
    assert (settings.https_port, settings.http_port) == (8443, 8080)
    assert settings.kubeconfig is None
    assert settings.attempts_kept == timedelta(days=7)
    assert settings.namespace_quota is None
    assert (settings.bundle_limit, settings.bundles_kept) == (256 * 2**20, timedelta(days=7))


def test_times_and_sizes_are_read_as_people_write_them() -> None:
    given = GIVEN | {"EDGEWISE_ATTEMPTS_KEPT": "Forever", "EDGEWISE_NAMESPACE_QUOTA": "1.5Gi"}
    settings = Settings.from_environment(given)
    assert (settings.attempts_kept, settings.namespace_quota) == (None, 3 * 2**29)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("EDGEWISE_NAMESPACE", "", "EDGEWISE_NAMESPACE is not set"),
        ("EDGEWISE_OPERATOR_URL", "edgewise-beats", "starts with https://"),
        ("EDGEWISE_HTTPS_PORT", "70000", "a port from 0 to 65535"),
        ("EDGEWISE_HTTP_PORT", "http", "a port from 0 to 65535"),
        ("EDGEWISE_ATTEMPTS_KEPT", "week", "such as 12h or 7d"),
        ("EDGEWISE_NAMESPACE_QUOTA", "much", "such as 10Gi"),
        ("EDGEWISE_NAMESPACE_QUOTA", "-1", "such as 10Gi"),
        ("EDGEWISE_BUNDLE_LIMIT", "-1Gi", "such as 10Gi"),
        ("EDGEWISE_BUNDLES_KEPT", "a while", "such as 12h or 7d"),
        ("EDGEWISE_LOG_LEVEL", "loud", "one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, fault: str) -> None:
    with pytest.raises(SettingError, match=name) as error:
        Settings.from_environment(GIVEN | {name: value})
    assert fault in str(error.value)
