"""The API server under test, as the tests of the kinds use it: nearly always by dry runs, which check everything."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from edgewise.api import API_VERSION, Kind
from kubernetes.client import ApiClient

MANAGER: Final = "edgewise-tests"
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Cause:
    """One reason for which the API server refused an object."""

    field: str
    message: str


class Refused(Exception):
    """The API server said no. `causes` are its reasons when it found an object invalid."""

    def __init__(self, question: str, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{question}: {status} {body.get('message')}")
        self.status = status
        causes = body.get("details", {}).get("causes", ())
        self.causes = tuple(Cause(cause.get("field", ""), cause.get("message", "")) for cause in causes)


class Cluster:
    """Creates, changes and reads objects of our kinds. Every method raises `Refused` for a no.

    Objects with unknown fields are refused too, as kubectl has it.
    """

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._client = client

    def create(self, kind: Kind, manifest: dict[str, Any], *, dry_run: bool = True) -> dict[str, Any]:
        """Create an object; what the API server made of it."""
        return self.request("POST", self.path(kind), manifest, dry_run=dry_run)

    def patch(self, kind: Kind, name: str, patch: Any, *, status: bool = False, accept: str = JSON) -> dict[str, Any]:
        """Try a change of an object, or of its status, by a merge patch (a dictionary) or a JSON patch (a list)."""
        path = f"{self.path(kind, name)}{'/status' if status else ''}"
        form = JSON_PATCH if isinstance(patch, list) else MERGE_PATCH
        return self.request("PATCH", path, patch, content_type=form, dry_run=True, accept=accept)

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object, if it is there."""
        try:
            self.request("DELETE", self.path(kind, name))
        except Refused as no:
            if no.status != HTTPStatus.NOT_FOUND:
                raise

    def path(self, kind: Kind, name: str = "") -> str:
        """Where objects of a kind are, or one of them."""
        scope = f"/namespaces/{self.namespace}" if kind.namespaced else ""
        return f"/apis/{API_VERSION}{scope}/{kind.plural}{f'/{name}' if name else ''}"

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        dry_run: bool = False,
        force: bool = False,
    ) -> dict[str, Any]:
        """Send one request; the answer."""
        changes = method in ("POST", "PATCH", "PUT")
        query = {
            **({"fieldManager": MANAGER, "fieldValidation": "Strict"} if changes else {}),
            **({"dryRun": "All"} if dry_run else {}),
            **({"force": "true"} if force else {}),
        }
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*request, _request_timeout=30)
        answer: dict[str, Any] = json.loads(response.read())
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(f"{method} {path}", response.status, answer)
        return answer
