"""What a run is measured by, and how it is told: the table's rows with their aims, and latest.json."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edgewise.domain.policies import POLICIES

from bench.figures import Figure
from bench.scale import Scale
from bench.table import Aim, Goal, Row, render
from testbed import paths

LATEST: Final = paths.CHECKOUT / "bench" / "latest.json"

ROWS: Final = (
    Row("bound_per_s_vs_pinned", "bound a second, raised client limits for both", Aim(Goal.AT_LEAST, 1.0)),
    Row("bound_per_s_vs_stock", "the same, against Jobs with stock client limits", Aim(Goal.AT_LEAST, 9)),
    Row("bound_per_s_both_on_stock", "bound a second, stock client limits for both"),
    Row("p50_vs_job", "apply to bound when idle, median, against a pinned Job", Aim(Goal.AT_MOST, 2)),
    Row("p99_vs_job", "the same, 99th percentile"),
    Row("makespan_vs_default", "makespan, default policy, against the default scheduler", Aim(Goal.AT_MOST, 0.57)),
    Row("makespan_vs_optimum", "makespan, default policy, against the clairvoyant optimum", Aim(Goal.AT_MOST, 1.10)),
    Row("writes_per_job", "API writes of the operator a job, besides Events", Aim(Goal.AT_MOST, 4)),
    Row("writes_per_job_with_csv", "the same for a job on a real device, with results", Aim(Goal.AT_MOST, 4)),
    Row("apply_to_csv_s", "s from kubectl apply to the checked CSV, image on the device"),
    Row("apply_to_csv_cold_s", "s, image fetched from a registry by the device"),
    Row("idle_link_mb_per_day", "MB over an idle device's link in a day, both ways", Aim(Goal.AT_MOST, 5)),
    Row("idle_flash_mb_per_day", "MB written to an idle device's flash in a day", Aim(Goal.AT_MOST, 5)),
    Row("operator_cpu_s_per_job", "s of the operator's CPU a job, its whole life"),
    Row("operator_rss_mib", "MiB of the operator's memory with the backlog"),
    Row("bound_per_s", "EdgeJobs bound a second, raised client limits"),
    Row("bound_per_s_pinned", "pinned Jobs bound a second, raised client limits"),
    Row("bound_per_s_on_stock", "EdgeJobs bound a second, stock client limits"),
    Row("bound_per_s_stock", "pinned Jobs bound a second, stock client limits"),
    Row("p50_ms", "ms from creation to bound when idle, EdgeJob, median"),
    Row("p99_ms", "ms, EdgeJob, 99th percentile"),
    Row("job_p50_ms", "ms, pinned Job, median"),
    Row("job_p99_ms", "ms, pinned Job, 99th percentile"),
    Row("writes_per_job_by_operator", "writes a job as the operator counts them"),
    Row("leader_changes", "rounds in which another operator took over (0 or 1); their CPU and memory are left out"),
    Row("job_writes_per_job", "API writes of the job controller a Job, besides Events"),
    Row("manager_cpu_s_per_job", "s of kube-controller-manager's CPU a Job"),
    Row("manager_rss_mib", "MiB of kube-controller-manager's memory"),
    Row("makespan_s_optimum", "s, the clairvoyant optimum, computed"),
    Row("makespan_s_by_hand", "s, Jobs shared out by hand"),
    Row("makespan_s_default", "s, Jobs by the default scheduler"),
    *(Row(f"makespan_s_{name.lower()}", f"s, EdgeJobs by policy {name}") for name in POLICIES),
    *(Row(f"makespan_vs_default_{name.lower()}", f"policy {name} against the default scheduler") for name in POLICIES),
    *(Row(f"makespan_vs_optimum_{name.lower()}", f"policy {name} against the optimum") for name in POLICIES),
)


def table(figures: Mapping[str, Figure]) -> str:
    """The table of a run."""
    return render(ROWS, figures)


def save(figures: Mapping[str, Figure], scale: Scale, file: Path = LATEST) -> None:
    """Write a run's figures: each with its median, minimum and maximum, and what the run was."""
    about = {
        "finishedAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "scale": asdict(scale),
    }
    told = {
        key: {"median": figure.median, "min": figure.minimum, "max": figure.maximum} for key, figure in figures.items()
    }
    file.write_text(json.dumps({"about": about, **told}, indent=2) + "\n")
