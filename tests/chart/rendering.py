"""The chart as helm renders it, and how to find things in what comes out."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from edgewise.api.generate import KUBERNETES

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Helm:
    """helm and the chart it works on."""

    binary: Path
    chart: Path

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb that takes a chart."""
        names = ["edgewise"] if verb == "template" else []
        command = [str(self.binary), verb, *names, str(self.chart), "--kube-version", KUBERNETES, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    def template(self, *values: str, namespace: str = "edgewise-system") -> list[Manifest]:
        """Every object of the chart, hooks too, with these values (`name=value`)."""
        flags = [flag for value in values for flag in ("--set-json" if value.endswith(("]", "}")) else "--set", value)]
        rendered = self.run("template", "--namespace", namespace, *flags)
        assert rendered.returncode == 0, rendered.stderr
        return [manifest for manifest in yaml.safe_load_all(rendered.stdout) if manifest]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The only object of this kind and name."""
    (found,) = [found for found in manifests if (found["kind"], found["metadata"]["name"]) == (kind, name)]
    return found


def pod_templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod template of each workload, by the workload's name."""
    return {
        found["metadata"]["name"]: found["spec"]["template"]
        for found in manifests
        if found["kind"] in ("Deployment", "DaemonSet", "Job")
    }


def environment(template: Manifest) -> dict[str, str]:
    """What a pod's only container finds in its environment; fields of the pod as their own path."""
    (container,) = template["spec"]["containers"]
    return {
        variable["name"]: variable["value"] if "value" in variable else variable["valueFrom"]["fieldRef"]["fieldPath"]
        for variable in container["env"]
    }
