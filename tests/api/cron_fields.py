"""What each field of an EdgeCronJob accepts and refuses; its template accepts what an EdgeJob does."""

from typing import Final

from tests.api.job_fields import EDGE_JOB_FIELDS, SECONDS
from tests.api.values import (
    COUNT,
    GENERATION,
    LABEL_VALUE,
    OBJECT_NAME,
    TIME,
    Field,
    choice,
    conditions,
    mapping,
    needed,
    number,
    ruled,
    several,
    text,
)

SCHEDULE: Final = ruled(
    text(
        "* " * 4 + "1," * 59 + "1 ",
        *("* * * * *", "*/5 0-23/2 1,15 JAN-mar mon-Fri", "0 2 ? * 7", "0 0 L * 1#2", "0 0 LW * 5L"),
        *("59 23 31 12 6", " 0  0  *  *  * ", "@hourly", "@Daily", "@midnight", "@weekly", "@monthly", "@yearly"),
        "@annually",
    ),
    {
        "write five fields": (
            *("", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *"),
            *("* * * * 8", "* * * * mond", "*/0 * * * *", "1- * * * *", "1,, * * * *", "@every 5m", "@reboot"),
            *("TZ=UTC 0 0 * * *", "CRON_TZ=UTC @daily", "0 0 * * *\n", "every day"),
        )
    },
)

TIME_ZONE: Final = text(
    "A" * 64,
    *("UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "America/Port-au-Prince"),
    bad=("", "/Berlin", "Europe/", "../etc/passwd", "Europe Berlin", "+02:00", "5"),
)

KEYS: Final = {"a key has 1 to 317 characters": ({"": "a"}, {"a" * 318: "a"})}

RUN: Final = {"uid": "7cb461c8-2c0a-49e1-a995-2eb636801bbd"}

UID: Final = text("a" * 64, "7cb461c8-2c0a-49e1-a995-2eb636801bbd", bad=("", "a b", "a_b"))

EDGE_CRON_JOB_FIELDS: Final[dict[str, Field]] = {
    "spec": needed(Field(good=({"schedule": "@daily", "jobTemplate": {"spec": {"appRef": {"name": "a"}}}},))),
    "spec.schedule": needed(SCHEDULE),
    "spec.timeZone": TIME_ZONE,
    "spec.concurrencyPolicy": choice("Allow", "Forbid", "Replace"),
    "spec.startingDeadlineSeconds": SECONDS,
    "spec.successfulJobsHistoryLimit": number(0, 100),
    "spec.failedJobsHistoryLimit": number(0, 100),
    "spec.jobTemplate": needed(Field(good=({"spec": {"appRef": {"name": "a"}}},))),
    "spec.jobTemplate.metadata.labels": ruled(
        mapping(lambda index: "", 32), KEYS, good=({"a" * 317: "a"}, {"team.example.org/name": "west"})
    ),
    "spec.jobTemplate.metadata.labels{}": LABEL_VALUE,
    "spec.jobTemplate.metadata.annotations": ruled(mapping(lambda index: "", 32), KEYS, good=({"a" * 317: "a"},)),
    "spec.jobTemplate.metadata.annotations{}": text("a" * 4096, "", "any text: ä\n"),
    **{f"spec.jobTemplate.{path}": field for path, field in EDGE_JOB_FIELDS.items() if path.startswith("spec")},
    "status.observedGeneration": GENERATION,
    "status.schedule": text("*" * 256, "", "0 0 * * * UTC"),
    "status.scheduleSince": TIME,
    "status.active": several(lambda index: {"name": f"nightly-{index}", **RUN}, 20),
    "status.active[].name": needed(OBJECT_NAME),
    "status.active[].uid": needed(UID),
    "status.active[].scheduledTime": TIME,
    "status.activeCount": COUNT,
    "status.lastScheduleTime": TIME,
    "status.lastSkippedTime": TIME,
    "status.lastSuccessfulTime": TIME,
    "status.nextScheduleTime": TIME,
    "status.runNow.token": needed(text("a" * 253, "", "2026-01-02 again")),
    "status.runNow.number": needed(number(1, 2**31 - 1)),
    "status.runNow.name": needed(OBJECT_NAME),
    **conditions(),
}
