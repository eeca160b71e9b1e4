"""The models without a cluster: reading, writing back, amounts and lengths of time."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from edgewise.api import (
    KINDS,
    Condition,
    ConditionStatus,
    Disconnect,
    EdgeApp,
    EdgeJob,
    EdgeJobSpec,
    EdgeJobStatus,
    Kind,
    Outcome,
    Resources,
    Retention,
    merge_patch,
    spec_body,
    status_body,
)
from edgewise.api.edge_cron_job import SCHEDULE_PATTERN
from edgewise.domain.schedule import Schedule, read
from edgewise.notation import parse_duration, parse_quantity
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.api.cron_fields import SCHEDULE
from tests.api.examples import EXAMPLES

JOB = EXAMPLES["EdgeJob"][0]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_read_is_written_back(kind: Kind) -> None:
    for example in EXAMPLES[kind.name]:
        read: Any = kind.model.model_validate(example)
        assert spec_body(read.spec) == example["spec"]
        assert example["status"].items() <= status_body(read.status).items()
        again = kind.model.model_validate({"spec": spec_body(read.spec), "status": status_body(read.status)})
        assert again.model_dump(include={"spec", "status"}) == read.model_dump(include={"spec", "status"})


def test_attributes_are_the_contracts_names_in_snake_case() -> None:
    job = EdgeJob.model_validate(JOB)
    assert job.spec.app_ref.name == "surveillance"
    assert job.spec.retry.max_backoff_seconds == 86_400
    assert job.spec.placement.affinity[0].values == ("west",)
    (attempt,) = job.status.attempts
    assert attempt.pod_uid == "7cb461c8-2c0a-49e1-a995-2eb636801bbd"
    assert attempt.outcome is Outcome.SUCCEEDED
    assert attempt.started_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert job.status.placement is not None
    assert job.status.placement.rejected[0].reason == "TooHot"
    assert job.status.results is not None
    assert job.status.results.files[0].bytes_ == 512


def test_a_model_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EdgeJob.model_validate(JOB).spec.suspend = False


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = {**JOB, "spec": {**JOB["spec"], "colour": "blue"}, "managedFields": []}
    assert EdgeJob.model_validate(newer).spec == EdgeJob.model_validate(JOB).spec


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"priority": 1001}, "priority"),
        ({"appRef": {"name": "Upper"}}, "name"),
        ({"retry": {"maxAttempts": 0}}, "maxAttempts"),
        ({"disconnect": {"replaceAfterSeconds": "Sometimes"}}, "replaceAfterSeconds"),
        ({"disconnect": {"replaceAfterSeconds": 0}}, "replaceAfterSeconds"),
        ({"retention": {"pods": "1 hour"}}, "pods"),
        ({"suspend": None}, "suspend"),
    ],
)
def test_what_the_api_server_would_refuse_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        EdgeJobSpec.model_validate({"appRef": {"name": "a"}, **change})
    assert field in refused.value.errors()[0]["loc"]


def test_an_object_without_status_was_never_looked_at() -> None:
    job = EdgeJob.model_validate({"metadata": {"name": "a"}, "spec": {"appRef": {"name": "a"}}})
    assert job.status == EdgeJobStatus()
    assert job.status.observed_generation == -1


def test_an_app_without_outputs_has_none() -> None:
    assert EdgeApp.model_validate({"spec": {"image": "a"}}).spec.outputs is None
    assert EdgeApp.model_validate({"spec": {"image": "a", "outputs": None}}).spec.outputs is None
    outputs = EdgeApp.model_validate({"spec": {"image": "a", "outputs": {}}}).spec.outputs
    assert outputs is not None
    assert (outputs.path, outputs.include, outputs.min_files, outputs.size_limit) == ("/outputs", ("*.csv",), 1, "1Gi")


def test_never_and_forever_are_none() -> None:
    assert Disconnect().replace_after_seconds == 60
    assert Disconnect.model_validate({"replaceAfterSeconds": "Never"}).replace_after_seconds is None
    assert Disconnect.model_validate({"replaceAfterSeconds": None}).replace_after_seconds is None
    assert Retention.model_validate({"pods": "Forever"}) == Retention(pods=None, results=None)


def test_times_are_written_in_utc_and_whole_seconds() -> None:
    condition = Condition(
        type="Ready",
        status=ConditionStatus.TRUE,
        reason="Found",
        last_transition_time=datetime.fromisoformat("2026-01-02T05:04:05.999+02:00"),
    )
    assert status_body(condition)["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        EdgeJobStatus(start_time=datetime(2026, 1, 2))  # noqa: DTZ001  # exactly what must fail


def test_a_long_message_is_cut() -> None:
    condition = Condition.model_validate(
        {
            "type": "Ready",
            "status": "False",
            "reason": "Found",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "message": "a" * 5000,
        }
    )
    assert condition.message == "a" * 4095 + "…"


def test_a_status_body_has_no_none() -> None:
    def nones(value: Any) -> bool:
        if isinstance(value, dict):
            return any(nones(inner) for inner in value.values())
        return any(nones(inner) for inner in value) if isinstance(value, list) else value is None

    body = status_body(EdgeJob.model_validate(JOB).status.model_copy(update={"start_time": None}))
    assert "startTime" not in body
    assert not nones(body)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", "0"),
        ("2", "2"),
        ("100m", "0.1"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("1.", "1"),
        ("1n", "0.000000001"),
        ("3u", "0.000003"),
        ("128Mi", "134217728"),
        ("1.5Gi", "1610612736"),
        ("2k", "2000"),
        ("1G", "1000000000"),
        ("1e3", "1000"),
        ("12E-1", "1.2"),
        ("1E", "1000000000000000000"),
        ("1Ei", "1152921504606846976"),
    ],
)
def test_amounts(text: str, amount: str) -> None:
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "-1", "1 Mi", "1mi", "Mi", "1e", "one", "1\n", "١"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        parse_quantity(text)


def test_whole_numbers_are_amounts() -> None:
    resources = Resources.model_validate({"requests": {"cpu": 2, "memory": "128Mi"}})
    assert resources.requests == {"cpu": "2", "memory": "128Mi"}
    with pytest.raises(ValidationError):
        Resources.model_validate({"requests": {"cpu": True}})
    with pytest.raises(ValidationError):
        Resources.model_validate({"requests": {"cpu": -1}})


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("7d", timedelta(days=7)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("99999d99999h99999m99999s", timedelta(days=99_999, hours=99_999, minutes=99_999, seconds=99_999)),
    ],
)
def test_lengths_of_time(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "1", "h", "1h1d", "1.5h", "1 h", "-1h", "1h\n", "123456s", "Forever"])
def test_no_lengths_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_the_rule_on_schedules_takes_what_can_be_read() -> None:
    """The rule's pattern, here without an API server; what only cronsim can refuse stalls the EdgeCronJob."""
    for schedule in SCHEDULE.good:
        assert re.fullmatch(SCHEDULE_PATTERN, schedule), schedule
        assert isinstance(read(schedule, None), Schedule), schedule
    for constraint, schedule in SCHEDULE.refusals():
        if constraint != "maxLength":
            assert not re.fullmatch(SCHEDULE_PATTERN, schedule), schedule


scalars = st.booleans() | st.integers(0, 3) | st.sampled_from("ab")
objects = st.recursive(
    st.dictionaries(st.sampled_from("abc"), scalars | st.lists(scalars, max_size=2), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), scalars | inner, max_size=3),
    max_leaves=8,
)


def applied(document: Any, patch: Any) -> Any:
    """RFC 7386, as its section 2 has it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = applied(result.get(name), value)
    return result


@given(objects, objects)
def test_a_merge_patch_leads_from_one_object_to_the_other(current: dict[str, Any], wanted: dict[str, Any]) -> None:
    patch = merge_patch(current, wanted)
    assert applied(current, patch) == wanted
    assert bool(patch) == (current != wanted)
