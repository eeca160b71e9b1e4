"""The CSI node plugin: kubelet's calls, turned into changes of the volume table.

This module owns what kubelet is told. Its rule: an error that kubelet takes as final makes it remove the folder it
asked for, so only a request for an unknown volume that breaks a rule gets one; everything else is "try again". It
never mounts anything.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from msgspec import DecodeError, ValidationError, convert

from edgewise_agent import __version__
from edgewise_agent.ahead import ON_CLOSE
from edgewise_agent.bundles import Bundles, BundleUnavailable
from edgewise_agent.journal import BundleEntry, Entry, VolumeID
from edgewise_agent.settings import Settings
from edgewise_agent.volumes import kubelet
from edgewise_agent.volumes.proto import csi_pb2 as csi
from edgewise_agent.volumes.table import SpoolFull, VolumeTable
from edgewise_agent.wire import BUNDLE_ATTRIBUTE, CSI_DRIVER, OutputVolume

EPHEMERAL: Final = "csi.storage.k8s.io/ephemeral"
POD_NAME: Final = "csi.storage.k8s.io/pod.name"
POD_NAMESPACE: Final = "csi.storage.k8s.io/pod.namespace"
POD_UID: Final = "csi.storage.k8s.io/pod.uid"
WAIT_SECONDS: Final = 100.0
"""How long a call waits for a bundle: kubelet gives up after 120 s, and would not say what it waited for."""
COLLECTS: Final = frozenset({"AtEnd", ON_CLOSE})
"""The ways of collecting that this agent knows."""

_log = logging.getLogger(__name__)


class Stream(Protocol):
    """One unary call, as grpclib gives it to a handler."""

    async def recv_message(self) -> Any: ...

    async def send_message(self, message: Any) -> None: ...


class InvalidVolume(ValueError):
    """A request that can't be served, however often it is repeated; the message says what breaks which rule."""


def unary(
    call: Callable[[Any], Awaitable[Any]], request: type, reply: type, on_error: Callable[[], None] = lambda: None
) -> Handler:
    """A handler for a unary method: takes the request, sends the reply, and turns the unexpected into "try again".

    grpclib would answer an unexpected exception with a status that kubelet takes as final.
    """

    async def handle(stream: Stream) -> None:
        message = await stream.recv_message()
        try:
            answer = await call(message)
        except GRPCError:
            raise
        except OSError as error:
            on_error()
            _log.warning("%s failed: %s", request.__name__, error)
            raise GRPCError(Status.UNAVAILABLE, str(error)) from error
        except Exception as error:  # the edge: nothing may reach kubelet as a final error
            on_error()
            _log.exception("%s failed", request.__name__)
            raise GRPCError(Status.UNAVAILABLE, f"the agent failed ({error!r}): its log says more") from error
        await stream.send_message(answer)

    return Handler(handle, Cardinality.UNARY_UNARY, request, reply)


class IdentityService:
    """CSI's Identity: who the plugin is."""

    async def get_plugin_info(self, _: csi.GetPluginInfoRequest) -> csi.GetPluginInfoResponse:
        return csi.GetPluginInfoResponse(name=CSI_DRIVER, vendor_version=__version__)

    async def get_plugin_capabilities(self, _: csi.GetPluginCapabilitiesRequest) -> csi.GetPluginCapabilitiesResponse:
        return csi.GetPluginCapabilitiesResponse()

    async def probe(self, _: csi.ProbeRequest) -> csi.ProbeResponse:
        return csi.ProbeResponse()

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            "/csi.v1.Identity/GetPluginInfo": unary(
                self.get_plugin_info, csi.GetPluginInfoRequest, csi.GetPluginInfoResponse
            ),
            "/csi.v1.Identity/GetPluginCapabilities": unary(
                self.get_plugin_capabilities, csi.GetPluginCapabilitiesRequest, csi.GetPluginCapabilitiesResponse
            ),
            "/csi.v1.Identity/Probe": unary(self.probe, csi.ProbeRequest, csi.ProbeResponse),
        }


def _check_target(entry: Entry | BundleEntry, request: csi.NodePublishVolumeRequest) -> None:
    """Return if a volume that is known already is asked for where it is; kubelet moves none."""
    if entry.target != request.target_path:
        message = f"volume {entry.volume_id} is published at {entry.target}, not at {request.target_path}"
        raise GRPCError(Status.ABORTED, message)


class NodeService:
    """CSI's Node: hands volumes out and takes them back."""

    def __init__(self, settings: Settings, table: VolumeTable, bundles: Bundles) -> None:
        self._settings = settings
        self._table = table
        self._bundles = bundles
        self._turn = asyncio.Lock()
        self._fetching: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.errors = 0
        """Calls since the start that failed unexpectedly."""

    async def publish(self, request: csi.NodePublishVolumeRequest) -> csi.NodePublishVolumeResponse:
        """Make the volume ready at its target. Safe to repeat: for a known volume, the journal's word counts."""
        entry = await asyncio.to_thread(self._table.unfinished_entry, request.volume_id)
        if entry is None:
            bundle = await asyncio.to_thread(self._bundles.entry, request.volume_id)
            if bundle is not None or BUNDLE_ATTRIBUTE in request.volume_context:
                return await self._publish_bundle(request, bundle)
            try:
                entry = requested_entry(request, self._settings.kubelet_root)
            except InvalidVolume as problem:
                raise GRPCError(Status.INVALID_ARGUMENT, str(problem)) from problem
        else:
            _check_target(entry, request)
        try:
            await asyncio.to_thread(self._table.publish, entry)
        except SpoolFull as problem:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(problem)) from problem
        _log.info("volume for pod %s/%s, job %s", entry.namespace, entry.pod_name, entry.asked.job)
        return csi.NodePublishVolumeResponse()

    async def _publish_bundle(
        self, request: csi.NodePublishVolumeRequest, entry: BundleEntry | None
    ) -> csi.NodePublishVolumeResponse:
        """The same for an app's own files, which are fetched first where the device does not hold them."""
        if entry is None:
            try:
                entry = requested_bundle(request, self._settings.kubelet_root)
            except InvalidVolume as problem:
                raise GRPCError(Status.INVALID_ARGUMENT, str(problem)) from problem
        else:
            _check_target(entry, request)
        try:
            if not await asyncio.to_thread(self._bundles.claim, entry):
                await self._fetched(entry.namespace, entry.sha256)
        except BundleUnavailable as problem:
            _log.warning("%s", problem)
            raise GRPCError(Status.UNAVAILABLE, str(problem)) from problem
        await asyncio.to_thread(self._bundles.publish, entry)
        _log.info("bundle for pod %s/%s", entry.namespace, entry.pod_name)
        return csi.NodePublishVolumeResponse()

    async def _fetched(self, namespace: str, sha256: str) -> None:
        """Wait for the bundle, not for ever. Whoever gives up waiting stops no fetch. Raises `BundleUnavailable`."""
        key = namespace, sha256
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(namespace, sha256))
            self._fetching[key] = task

            def ended(done: asyncio.Task[None]) -> None:
                del self._fetching[key]
                if not done.cancelled():
                    done.exception()  # told to who waits, if anybody does

            task.add_done_callback(ended)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.shield(task)
        except TimeoutError:
            come = await asyncio.to_thread(self._bundles.come, namespace, sha256)
            raise BundleUnavailable(
                f"bundle sha256:{sha256} of namespace {namespace} is being fetched, {come} bytes are here so far"
            ) from None

    async def _fetch(self, namespace: str, sha256: str) -> None:
        """Fetch the bundle in turn with others, range by range: a large one holds no small one back."""
        here = False
        while not here:
            async with self._turn:
                here = await asyncio.to_thread(self._bundles.advance, namespace, sha256)

    async def unpublish(self, request: csi.NodeUnpublishVolumeRequest) -> csi.NodeUnpublishVolumeResponse:
        """Take the volume into the spool. Safe to repeat, also for a volume that never was."""
        problem = volume_id_problem(request.volume_id) or kubelet.target_problem(
            request.target_path, self._settings.kubelet_root
        )
        if problem:
            raise GRPCError(Status.INVALID_ARGUMENT, problem)
        if await asyncio.to_thread(self._bundles.unpublish, request.volume_id):
            return csi.NodeUnpublishVolumeResponse()
        await asyncio.to_thread(self._table.unpublish, request.volume_id, Path(request.target_path))
        return csi.NodeUnpublishVolumeResponse()

    async def get_info(self, _: csi.NodeGetInfoRequest) -> csi.NodeGetInfoResponse:
        return csi.NodeGetInfoResponse(node_id=self._settings.node_name)

    async def get_capabilities(self, _: csi.NodeGetCapabilitiesRequest) -> csi.NodeGetCapabilitiesResponse:
        return csi.NodeGetCapabilitiesResponse()

    def _count_error(self) -> None:
        self.errors += 1

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            "/csi.v1.Node/NodePublishVolume": unary(
                self.publish, csi.NodePublishVolumeRequest, csi.NodePublishVolumeResponse, self._count_error
            ),
            "/csi.v1.Node/NodeUnpublishVolume": unary(
                self.unpublish, csi.NodeUnpublishVolumeRequest, csi.NodeUnpublishVolumeResponse, self._count_error
            ),
            "/csi.v1.Node/NodeGetInfo": unary(self.get_info, csi.NodeGetInfoRequest, csi.NodeGetInfoResponse),
            "/csi.v1.Node/NodeGetCapabilities": unary(
                self.get_capabilities, csi.NodeGetCapabilitiesRequest, csi.NodeGetCapabilitiesResponse
            ),
        }


def requested_entry(request: csi.NodePublishVolumeRequest, kubelet_root: Path) -> Entry:
    """The journal's entry for a request. Raises `InvalidVolume`."""
    attributes = dict(request.volume_context)
    pod = _checked_pod(request, kubelet_root)
    if request.readonly:
        raise InvalidVolume(f"an output volume can't be read-only (pod {pod}): leave readOnly out")
    try:
        asked = OutputVolume.from_attributes(attributes)
        entry = convert({**_fields(request), "asked": asked}, Entry)
    except (ValidationError, DecodeError, UnicodeDecodeError) as error:
        raise InvalidVolume(
            f"the output volume of pod {pod} has attributes that the agent can't use ({error}): "
            "agent and operator must be of one release, and the CSIDriver needs podInfoOnMount"
        ) from error
    if asked.collect not in COLLECTS:
        known = ", ".join(sorted(COLLECTS))
        raise InvalidVolume(
            f"the output volume of pod {pod} asks for collect {asked.collect!r}; this agent knows {known}"
        )
    return entry


def requested_bundle(request: csi.NodePublishVolumeRequest, kubelet_root: Path) -> BundleEntry:
    """The journal's entry for a volume that is to hold a bundle. Raises `InvalidVolume`."""
    pod = _checked_pod(request, kubelet_root)
    if not request.readonly:
        # kubelet then mounts it read-only into every container, whatever the container asks: its files are shared.
        raise InvalidVolume(f"a bundle must be read-only (pod {pod}): add readOnly: true to the csi volume")
    try:
        return convert({**_fields(request), "sha256": request.volume_context[BUNDLE_ATTRIBUTE]}, BundleEntry)
    except ValidationError as error:
        raise InvalidVolume(
            f"the bundle of pod {pod} can't be served ({error}): the attribute {BUNDLE_ATTRIBUTE} is a SHA-256 in hex"
        ) from error


def _fields(request: csi.NodePublishVolumeRequest) -> dict[str, str | None]:
    """What the entries of all kinds have."""
    attributes = request.volume_context
    return {
        "volumeId": request.volume_id,
        "target": request.target_path,
        "namespace": attributes.get(POD_NAMESPACE, ""),
        "podName": attributes.get(POD_NAME, ""),
        "podUid": attributes.get(POD_UID, ""),
    }


def _checked_pod(request: csi.NodePublishVolumeRequest, kubelet_root: Path) -> str:
    """The pod that the request is for, once it breaks no rule of all kinds. Raises `InvalidVolume`."""
    attributes = request.volume_context
    pod = f"{attributes.get(POD_NAMESPACE, '?')}/{attributes.get(POD_NAME, '?')}"
    if problem := volume_id_problem(request.volume_id) or kubelet.target_problem(request.target_path, kubelet_root):
        raise InvalidVolume(problem)
    if attributes.get(EPHEMERAL) != "true":
        raise InvalidVolume(
            f"{CSI_DRIVER} serves volumes written inline in a pod only (pod {pod}): use no PersistentVolume"
        )
    if request.volume_capability.HasField("block"):
        raise InvalidVolume(f"{CSI_DRIVER} serves no block volumes (pod {pod})")
    return pod


def volume_id_problem(volume_id: str) -> str | None:
    """Why an id is none that can name a file, or None."""
    try:
        convert(volume_id, VolumeID)
    except ValidationError as error:
        return f"volume id {volume_id!r}: {error}"
    return None
