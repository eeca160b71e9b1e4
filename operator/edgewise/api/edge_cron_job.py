"""EdgeCronJob: EdgeJobs that start by a schedule.

Owns what a user asks for and what became of it; domain/schedule.py says when a schedule is due.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from edgewise.api.conditions import Conditions, ObservedGeneration
from edgewise.api.edge_job import EdgeJobSpec, Seconds, set_names
from edgewise.api.job_status import Count
from edgewise.api.kind import Column, Kind
from edgewise.api.metadata import API_VERSION, NAME_LENGTH, Metadata
from edgewise.api.schema import Model, Rule, checked, keyed_by
from edgewise.api.text import UID, LabelValue, ObjectName, Timestamp

CRON_NAME_LENGTH: Final = NAME_LENGTH - 11
"""The longest name of an EdgeCronJob: a run's name adds `-now-` and six characters, or a dash and nine digits."""

ACTIVE_KEPT: Final = 20
"""How many running runs a status lists; the newest."""

TOKEN_LENGTH: Final = 253

NICKNAMES: Final = ("yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly")


def _field(value: str, *special: str) -> str:
    """A field of a cron expression: a list of `*`, values, ranges and steps. CEL and Python read it alike."""
    term = "|".join((rf"([*?]|{value}(-{value})?)(/[1-9][0-9]?)?", *special))
    return f"({term})(,({term}))*"


_HOUR = "([01]?[0-9]|2[0-3])"
_DAY = "(0?[1-9]|[12][0-9]|3[01])"
_MONTH = "(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_WEEKDAY = "([0-7]|sun|mon|tue|wed|thu|fri|sat)"
_FIELDS: Final = (
    _field("[0-5]?[0-9]"),
    _field(_HOUR),
    _field(_DAY, "L", "LW"),
    _field(_MONTH),
    _field(_WEEKDAY, f"{_WEEKDAY}#[1-5]", "[0-7]L"),
)
SCHEDULE_PATTERN: Final = f"(?i)^ *(@({'|'.join(NICKNAMES)})|{' +'.join(_FIELDS)}) *$"

CronSchedule = Annotated[
    str,
    Field(max_length=128),
    checked(
        Rule(
            f"self.matches('{SCHEDULE_PATTERN}')",
            "write five fields (minute, hour, day of the month, month, day of the week) such as `30 2 * * 1-5`, or one "
            f"of {', '.join(f'@{name}' for name in NICKNAMES)}; the time zone goes into spec.timeZone",
        )
    ),
]
"""A cron expression."""

TimeZone = Annotated[str, Field(max_length=64, pattern="^[A-Za-z][-+A-Za-z0-9_]*(/[A-Za-z0-9][-+A-Za-z0-9_]*)*$")]
"""A name of the IANA time zone database, such as Europe/Berlin or UTC."""

_KEYS: Final = Rule("self.all(key, 1 <= size(key) && size(key) <= 317)", "a key has 1 to 317 characters")


class ConcurrencyPolicy(StrEnum):
    """What happens when a run is due while an earlier one still goes on."""

    ALLOW = "Allow"
    """both go on"""
    FORBID = "Forbid"
    """the new one is skipped"""
    REPLACE = "Replace"
    """the earlier one is deleted, and the new one started"""


class JobTemplateMetadata(Model):
    """What the metadata of each run has besides Edgewise's own."""

    labels: Annotated[Mapping[str, LabelValue], Field(max_length=32), checked(_KEYS)] = Field(default_factory=dict)
    """Labels of each run."""
    annotations: Annotated[
        Mapping[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32), checked(_KEYS)
    ] = Field(default_factory=dict)
    """Annotations of each run."""


class JobTemplate(Model):
    """The EdgeJob that each run is."""

    metadata: JobTemplateMetadata = JobTemplateMetadata()
    """Labels and annotations of each run."""
    spec: EdgeJobSpec
    """The spec of each run."""


class EdgeCronJobSpec(Model):
    """What to run, and when."""

    schedule: CronSchedule
    """When runs start, as in a crontab: minute, hour, day of the month, month, day of the week; or @hourly, @daily,
    @weekly, @monthly, @yearly."""
    time_zone: TimeZone | None = None
    """The time zone of the schedule, such as Europe/Berlin; UTC unless given."""
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.ALLOW
    """What happens when a run is due while an earlier one still goes on."""
    starting_deadline_seconds: Seconds | None = None
    """How late a run may start, in seconds; a run that is later is missed. Any time late unless given, but of several
    missed runs only the latest is started."""
    suspend: bool = False
    """Whether no run starts by the schedule; those that go on are left alone."""
    successful_jobs_history_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """How many complete runs are kept."""
    failed_jobs_history_limit: Annotated[int, Field(ge=0, le=100)] = 1
    """How many failed runs are kept."""
    job_template: JobTemplate
    """The EdgeJob that each run is."""


class ActiveRun(Model):
    """A run that has not ended."""

    name: ObjectName
    """The name of its EdgeJob."""
    uid: UID
    """The UID of its EdgeJob."""
    scheduled_time: Timestamp | None = None
    """The time that it was scheduled for; absent when it was asked for by an annotation."""


class RunNow(Model):
    """The last value of the annotation edgewise.dev/run-now that was answered by a run."""

    token: Annotated[str, Field(max_length=TOKEN_LENGTH)]
    """The value; its SHA-256 when it is longer than 253 characters."""
    number: Annotated[int, Field(ge=1, le=2**31 - 1)]
    """How many values have been answered so far."""
    name: ObjectName
    """The name of the run's EdgeJob."""


class EdgeCronJobStatus(Model):
    """Which runs go on, and which was the last."""

    observed_generation: ObservedGeneration = -1
    """The metadata.generation that this was found for; -1 before anyone has looked."""
    schedule: Annotated[str, Field(max_length=256)] = ""
    """The schedule and time zone that runs follow: the last ones that could be read."""
    schedule_since: Timestamp | None = None
    """Since when they hold; no run starts for an earlier time."""
    active: Annotated[tuple[ActiveRun, ...], Field(max_length=ACTIVE_KEPT), keyed_by("name")] = ()
    """The runs that have not ended; the newest 20."""
    active_count: Count = 0
    """How many runs have not ended."""
    last_schedule_time: Timestamp | None = None
    """The scheduled time of the last run that was started by the schedule."""
    last_skipped_time: Timestamp | None = None
    """The last scheduled time for which no run was started in time: an earlier one went on, or it was too late."""
    last_successful_time: Timestamp | None = None
    """When a run was last complete."""
    next_schedule_time: Timestamp | None = None
    """When the next run is due; absent while suspended."""
    run_now: RunNow | None = None
    """The last value of the annotation edgewise.dev/run-now that was answered."""
    conditions: Conditions = ()
    """Ready: runs start when they are due. Stalled: they can't, until somebody corrects what the message names."""


class EdgeCronJob(Model):
    """Starts an EdgeJob whenever its schedule is due."""

    api_version: Literal["edgewise.dev/v1alpha1"] = API_VERSION
    kind: Literal["EdgeCronJob"] = "EdgeCronJob"
    metadata: Metadata = Metadata()
    spec: EdgeCronJobSpec
    """What to run, and when."""
    status: EdgeCronJobStatus = EdgeCronJobStatus()
    """Which runs go on, and which was the last."""


EDGE_CRON_JOB: Final = Kind(
    model=EdgeCronJob,
    plural="edgecronjobs",
    short_name="ecj",
    namespaced=True,
    rules=(
        Rule(
            f"size(self.metadata.name) <= {CRON_NAME_LENGTH}",
            f"the name must have at most {CRON_NAME_LENGTH} characters, so that the names of its runs can be made "
            "from it",
        ),
        *set_names("self.spec.jobTemplate.spec", NAME_LENGTH - CRON_NAME_LENGTH),
    ),
    columns=(
        Column("Schedule", ".spec.schedule"),
        Column("Time-Zone", ".spec.timeZone"),
        Column("Suspend", ".spec.suspend", "boolean"),
        Column("Active", ".status.activeCount", "integer"),
        Column("Last-Run", ".status.lastScheduleTime", "date"),
        Column("Last-Success", ".status.lastSuccessfulTime", "date"),
        Column("Next-Run", ".status.nextScheduleTime"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        Column("App", ".spec.jobTemplate.spec.appRef.name", wide=True),
        Column("Policy", ".spec.concurrencyPolicy", wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
