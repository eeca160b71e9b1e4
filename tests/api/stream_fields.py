"""What each field of an EdgeStream accepts and refuses; its template accepts what an EdgeJob does, where it has it."""

from typing import Final

from tests.api.cron_fields import EDGE_CRON_JOB_FIELDS
from tests.api.job_fields import EDGE_JOB_FIELDS
from tests.api.values import (
    BYTES,
    COUNT,
    GENERATION,
    OPTIONAL_OBJECT_NAME,
    TIME,
    Field,
    choice,
    conditions,
    needed,
    number,
)

OF_A_JOB_ALONE: Final = (
    *("spec.retry", "spec.activeDeadlineSeconds", "spec.queueDeadlineSeconds"),
    *("spec.completions", "spec.parallelism"),
)
"""Fields of an EdgeJob's spec that make no sense for what runs until it is deleted."""

METADATA: Final = "spec.jobTemplate.metadata"

EDGE_STREAM_FIELDS: Final[dict[str, Field]] = {
    "spec": needed(Field(good=({"jobTemplate": {"spec": {"appRef": {"name": "a"}}}},))),
    "spec.runsHistoryLimit": number(0, 100),
    "spec.jobTemplate": needed(Field(good=({"spec": {"appRef": {"name": "a"}}},))),
    **{path: field for path, field in EDGE_CRON_JOB_FIELDS.items() if path.startswith(METADATA)},
    **{
        f"spec.jobTemplate.{path}": field
        for path, field in EDGE_JOB_FIELDS.items()
        if path.startswith("spec") and not path.startswith(OF_A_JOB_ALONE)
    },
    "status.observedGeneration": GENERATION,
    "status.phase": choice("Pending", "Bound", "Running", "Restarting", "Suspended"),
    "status.run": OPTIONAL_OBJECT_NAME,
    "status.runNumber": COUNT,
    "status.device": OPTIONAL_OBJECT_NAME,
    "status.restarts": COUNT,
    "status.quickEnds": COUNT,
    "status.lastFileTime": TIME,
    "status.lagSeconds": BYTES,
    "status.nextRunAt": TIME,
    **conditions(),
}
