"""The operator's settings: bounds, defaults, and an error that names each that is wrong."""

import pytest
from edgewise.control.settings import SettingsError, from_environment
from edgewise.domain.views import Tenancy

NEEDED = {"EDGEWISE_NAMESPACE": "edgewise-system", "EDGEWISE_POD_NAME": "operator-1"}


def test_defaults() -> None:
    settings = from_environment(NEEDED)
    assert settings.beat_interval.total_seconds() == 10
    assert settings.results_url == "https://edgewise-gateway.edgewise-system.svc"
    assert settings.username("edgewise-agent") == "system:serviceaccount:edgewise-system:edgewise-agent"


def test_given_values() -> None:
    settings = from_environment(
        NEEDED
        | {
            "EDGEWISE_BEAT_SECONDS": "1",
            "EDGEWISE_LOG_LEVEL": "debug",
            "EDGEWISE_GATEWAY_URL": "https://x/",
            "PATH": "/",
        }
    )
    assert (settings.beat_seconds, settings.log_level, settings.results_url) == (1, "DEBUG", "https://x")


def test_what_namespaces_get() -> None:
    given = '{"default": {"share": 1}, "named": {"demo": {"share": 2.5, "maxRunning": 3}}}'
    namespaces = from_environment(NEEDED | {"EDGEWISE_NAMESPACES": given}).namespaces
    assert namespaces.default.tenancy == Tenancy(share=1, max_running=None)
    assert namespaces.named["demo"].tenancy == Tenancy(share=2.5, max_running=3)


def test_an_empty_value_is_no_value() -> None:
    assert from_environment(NEEDED | {"EDGEWISE_DEFAULT_SLOTS": ""}).default_slots == 4


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"EDGEWISE_BEAT_SECONDS": "0"}, "EDGEWISE_BEAT_SECONDS"),
        ({"EDGEWISE_DEFAULT_SLOTS": "many"}, "EDGEWISE_DEFAULT_SLOTS"),
        ({"EDGEWISE_DEFAULT_POLICY": "Guess"}, "EDGEWISE_DEFAULT_POLICY.*there are Score, ExpectedFinish"),
        ({"EDGEWISE_TLS_MODE": "None"}, "EDGEWISE_TLS_MODE"),
        ({"EDGEWISE_POD_NAME": ""}, "EDGEWISE_POD_NAME"),
        ({"EDGEWISE_STARVATION_SECONDS": "0"}, "EDGEWISE_STARVATION_SECONDS"),
        ({"EDGEWISE_NAMESPACES": "demo"}, "EDGEWISE_NAMESPACES: Invalid JSON"),
        ({"EDGEWISE_NAMESPACES": '{"named": {"demo": {"share": 0}}}'}, "EDGEWISE_NAMESPACES.named.demo.share: "),
        ({"EDGEWISE_NAMESPACES": '{"default": {"most": 1}}'}, "EDGEWISE_NAMESPACES.default.most: "),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        from_environment(NEEDED | wrong)
