"""The runs of an EdgeCronJob: their names, what makes an EdgeJob one of them, and their manifests.

Owns nothing of when one starts. A name is made from the scheduled minute, or from the annotation that asks for the run,
so it is the same after a crash, and the API server refuses the second of two.
"""

from base64 import b32encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from edgewise.api import API_VERSION, GROUP, spec_body
from edgewise.api.edge_cron_job import TOKEN_LENGTH
from edgewise.domain.conditions import holds
from edgewise.domain.views import CronView, JobView, Key

CRON_LABEL: Final = f"{GROUP}/cron-job"
SCHEDULED_ANNOTATION: Final = f"{GROUP}/scheduled-at"
RUN_NOW_ANNOTATION: Final = f"{GROUP}/run-now"

ASKED: Final = "now-"
ASKED_CHARACTERS: Final = 6
MOST_DIGITS: Final = 9
"""The most that the minute in a run's name has: enough until the year 3871."""


@dataclass(frozen=True, slots=True)
class Run:
    """An EdgeJob that is a run of an EdgeCronJob."""

    job: JobView
    scheduled_time: datetime | None
    """None: it was asked for by an annotation"""
    succeeded: bool = field(init=False)
    """whether it has ended well"""

    def __post_init__(self) -> None:
        ended_well = self.job.finished and holds(self.job.status.conditions, "Complete")
        object.__setattr__(self, "succeeded", ended_well)

    @property
    def name(self) -> str:
        """The name of its EdgeJob."""
        return self.job.key.name

    @property
    def age_order(self) -> tuple[datetime, str]:
        """Sorts runs oldest first."""
        return self.job.created_at, self.name


def run_of(cron: CronView, job: JobView) -> Run | None:
    """The job as a run of `cron`; None unless that controls it and can have given it its name."""
    if job.cron_uid != cron.uid or job.key.namespace != cron.key.namespace:
        return None
    prefix, _, rest = job.key.name.partition(f"{cron.key.name}-")
    if prefix or not rest:
        return None
    if rest.isascii() and rest.isdigit() and len(rest) <= MOST_DIGITS:
        return Run(job, datetime.fromtimestamp(60 * int(rest), UTC))
    return Run(job, None) if rest.startswith(ASKED) and len(rest) == len(ASKED) + ASKED_CHARACTERS else None


def scheduled_key(cron: CronView, at: datetime) -> Key:
    """The name of the run for a scheduled time: `<cron job>-<minutes since 1970>`."""
    return Key(cron.key.namespace, f"{cron.key.name}-{int(at.timestamp()) // 60}")


def asked_key(cron: CronView, token: str, number: int) -> Key:
    """The name of the run that the `number`th value of the annotation asks for: `<cron job>-now-<six characters>`."""
    digest = sha256(f"{cron.uid}/{number}/{token}".encode()).digest()
    characters = b32encode(digest).decode().lower()[:ASKED_CHARACTERS]
    return Key(cron.key.namespace, f"{cron.key.name}-{ASKED}{characters}")


def recorded(token: str) -> str:
    """How a status holds a value of the annotation."""
    return token if len(token) <= TOKEN_LENGTH else f"sha256:{sha256(token.encode()).hexdigest()}"


def build_run(cron: CronView, key: Key, annotation: tuple[str, str]) -> dict[str, Any]:
    """The EdgeJob of a run, with the annotation that says why it is there."""
    template, (name, value) = cron.spec.job_template, annotation
    return {
        "apiVersion": API_VERSION,
        "kind": "EdgeJob",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {**template.metadata.labels, CRON_LABEL: cron.key.name},
            "annotations": {**template.metadata.annotations, name: value},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "EdgeCronJob",
                    "name": cron.key.name,
                    "uid": cron.uid,
                    "controller": True,
                }
            ],
        },
        "spec": spec_body(template.spec),
    }
