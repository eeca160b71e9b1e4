"""The operator's settings: bounds, defaults, and an error that names each that is wrong."""

import pytest
from edgewise.control.settings import SettingsError, from_environment

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
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        from_environment(NEEDED | wrong)
