"""The operator's settings, from its environment. Owns their names, bounds and defaults."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Json, ValidationError

from edgewise.domain.policies import POLICIES
from edgewise.domain.views import Tenancy

PREFIX = "EDGEWISE_"


def _upper(word: str) -> str:
    return word.upper()


def _registered(policy: str) -> str:
    if policy not in POLICIES:
        raise ValueError(f"{policy} is no placement policy: there are {', '.join(POLICIES)}")
    return policy


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it."""


class NamespaceSettings(BaseModel):
    """What a namespace gets of the fleet."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    share: Annotated[float, Field(gt=0, le=1_000_000)] = 1
    max_running: Annotated[int | None, Field(ge=1, alias="maxRunning")] = None

    @property
    def tenancy(self) -> Tenancy:
        """The same as decisions take it."""
        return Tenancy(self.share, self.max_running)


class Namespaces(BaseModel):
    """What each namespace gets of the fleet: those that are named, and all others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: NamespaceSettings = NamespaceSettings()
    named: Mapping[str, NamespaceSettings] = {}


class Settings(BaseModel):
    """What the chart tells the operator. Each field is the environment variable EDGEWISE_<FIELD>."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    namespace: Annotated[str, Field(min_length=1)]
    """where Edgewise itself runs"""
    pod_name: Annotated[str, Field(min_length=1)]
    """this pod, which the leader labels"""
    kubeconfig: Path | None = None
    """for a run outside the cluster"""
    beats_service: str = "edgewise-beats"
    gateway_service: str = "edgewise-gateway"
    agent_service_account: str = "edgewise-agent"
    gateway_service_account: str = "edgewise-gateway"
    beat_seconds: Annotated[float, Field(ge=0.5, le=3600)] = 10
    default_policy: Annotated[str, AfterValidator(_registered)] = "ExpectedFinish"
    default_slots: Annotated[int, Field(ge=1, le=1000)] = 4
    starvation_seconds: Annotated[float, Field(ge=1, le=365 * 86_400)] = 3600
    """how long a job may be passed by others of a higher priority"""
    namespaces: Json[Namespaces] = Namespaces()
    priority_class: str = ""
    edge_label: str = "edgewise.dev/edge"
    gateway_url: str = ""
    """the address under which users reach the gateway; the Service's own where empty"""
    tls_mode: Literal["Generated", "Existing"] = "Generated"
    ca_name: str = "edgewise-ca"
    operator_tls_secret: str = "edgewise-operator-tls"  # noqa: S105 - the name of a Secret
    gateway_tls_secret: str = "edgewise-gateway-tls"  # noqa: S105 - the name of a Secret
    lease_name: str = "edgewise-operator"
    resync_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """how often the caches are compared with the API server: what a watch has missed is missed for no longer"""
    patience_seconds: Annotated[float, Field(ge=1, le=3600)] = 90
    """how long a part may be silent before /healthz fails"""
    intake_port: Annotated[int, Field(ge=1, le=65535)] = 8443
    http_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"

    @property
    def beat_interval(self) -> timedelta:
        """How often agents report."""
        return timedelta(seconds=self.beat_seconds)

    @property
    def resync(self) -> timedelta:
        """How often the caches are compared with the API server."""
        return timedelta(seconds=self.resync_seconds)

    @property
    def patience(self) -> timedelta:
        """How long a part may be silent before /healthz fails."""
        return timedelta(seconds=self.patience_seconds)

    @property
    def results_url(self) -> str:
        """The address that status.results.url starts with."""
        return (self.gateway_url or f"https://{self.gateway_service}.{self.namespace}.svc").rstrip("/")

    def username(self, service_account: str) -> str:
        """The username of one of Edgewise's own ServiceAccounts."""
        return f"system:serviceaccount:{self.namespace}:{service_account}"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings. Raises `SettingsError` with one line for each that is missing or wrong."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value != ""
    }
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        lines = [f"{_where(one['loc'])}: {one['msg']}" for one in error.errors()]
        raise SettingsError("; ".join(lines)) from error


def _where(location: tuple[int | str, ...]) -> str:
    """The variable, and for one in JSON the place in it."""
    variable, *inside = map(str, location)
    return PREFIX + ".".join([variable.upper(), *inside])
