"""Kubernetes conditions as kstatus reads them: observedGeneration on each, times that change only with the status."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from edgewise.api import Condition, ConditionStatus

LONGEST_MESSAGE: Final = 1024


@dataclass(frozen=True, slots=True)
class Claim:
    """What one condition should say now."""

    type: str
    holds: bool
    reason: str
    message: str


def updated(old: Iterable[Condition], claims: Iterable[Claim], generation: int, now: datetime) -> tuple[Condition, ...]:
    """The claims as conditions, each with the old transition time where its status has not changed."""
    before = {condition.type: condition for condition in old}
    conditions = []
    for claim in claims:
        status = ConditionStatus.TRUE if claim.holds else ConditionStatus.FALSE
        message = shortened(claim.message)
        previous = before.get(claim.type)
        unchanged = previous is not None and previous.status is status
        if previous and unchanged and _says(previous) == (claim.reason, message, generation):
            conditions.append(previous)
            continue
        since = previous.last_transition_time if previous and unchanged else now
        conditions.append(_condition(claim.type, status, claim.reason, message, generation, since))
    return tuple(conditions)


@lru_cache(maxsize=4096)  # in a burst most jobs say the same, and each pass says it again
def _condition(
    name: str, status: ConditionStatus, reason: str, message: str, generation: int, since: datetime
) -> Condition:
    return Condition(
        type=name,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=since,
    )


def named(conditions: Iterable[Condition], name: str) -> Condition | None:
    """The condition `name`, if it is there."""
    return next((condition for condition in conditions if condition.type == name), None)


def _says(condition: Condition) -> tuple[str, str, int | None]:
    return condition.reason, condition.message, condition.observed_generation


def holds(conditions: Iterable[Condition], name: str) -> bool:
    """Whether the condition `name` is there and True."""
    condition = named(conditions, name)
    return condition is not None and condition.status is ConditionStatus.TRUE


def shortened(message: str, longest: int = LONGEST_MESSAGE) -> str:
    """The message, cut to what the API takes."""
    return message if len(message) <= longest else message[: longest - 1] + "…"
