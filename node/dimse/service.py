"""The node's DIMSE side: C-ECHO and C-STORE (PS3.4 A, B), audited, for callers that the configuration names.

Runs in threads of pynetdicom, one pair for each association; the archive's ``ingest`` is made for that. Nothing here is shared
between nodes: as many as you like fit in one process.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pynetdicom import AE, evt

from crosslight.runtime.audit import AuditEntry, AuditLog
from crosslight.runtime.clock import Ids
from crosslight.runtime.credentials import device
from crosslight.runtime.log import get_logger
from crosslight.runtime.tls import server_context
from crosslight.runtime.trouble import cannot_listen
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, OutOfSpace, StorageError, TooLarge
from node.archive.ingest import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS
from node.archive.model import IngestResult, Received
from node.archive.stage import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, Staged
from node.dimse.association import Incoming, NodeAssociation
from node.dimse.config import DimseConfig
from node.dimse.contexts import accepted_contexts
from node.dimse.message import StoreRequest
from node.dimse.server import NodeServer

log = get_logger("dimse")

_REJECTED_PERMANENT, _SERVICE_USER, _CALLING_UNKNOWN = 0x01, 0x01, 0x03  # PS3.8 Table 9-21


class ObjectSink(Protocol):
    """The part of the archive that is needed."""

    def stage(self, received: Received | None = None) -> Staged:
        """A place for incoming bytes."""
        ...

    def ingest(self, staged: Staged, received: Received) -> IngestResult:
        """Take in; durable when it returns."""
        ...

    def patients(self, study_uid: str) -> tuple[Identifier, ...]:
        """Whose study it is."""
        ...


@dataclass(slots=True)
class _Act:
    """One audited act: a study (or, for what was refused, none) in an association."""

    entry: AuditEntry
    stored: int = 0
    duplicates: int = 0
    failed: int = 0

    def outcome(self) -> str:
        parts = [f"{self.stored} stored"]
        parts += [f"{self.duplicates} duplicate"] if self.duplicates else []
        parts += [f"{self.failed} refused"] if self.failed else []
        return ("failed: " if self.failed and not self.stored and not self.duplicates else "ok ") + ", ".join(parts)


@dataclass(slots=True)
class _Account:
    """What an association has done."""

    principal: Principal
    rule: str
    peer: str
    correlation: str
    syntaxes: dict[int, str] = field(default_factory=dict)  # context id -> transfer syntax
    acts: dict[str, _Act] = field(default_factory=dict)


class DimseService:
    """C-ECHO and C-STORE SCP.

    Args:
        archive: Where objects go.
        audit: The node's audit log.
        config: The ``[dimse]`` section.
        ids: For correlation ids.
        workers: For stopping without blocking the event loop.
        organisation: This node's organisation code; its AE title unless the configuration says another.
        base: Folder that relative paths of the configuration start from.
        any_caller: Accept every caller, as an open demo does.

    Raises:
        ConfigError: for a configuration that cannot be used.
    """

    def __init__(
        self, archive: ObjectSink, audit: AuditLog, config: DimseConfig, ids: Ids, workers: Workers, *, organisation: str,
        base: Path = Path(), any_caller: bool = False,
    ) -> None:  # fmt: skip
        config.check()
        self._archive, self._audit, self._config, self._ids, self._workers = archive, audit, config, ids, workers
        self._organisation = organisation
        self._any_caller = any_caller or config.accept_any_caller
        self.ae_title = (config.ae_title or organisation).strip()[:16]
        self._tls = self._tls_context(base)
        self._server: NodeServer | None = None
        self._lock = threading.Lock()
        #: Counters for metrics: objects by outcome, associations by outcome.
        self.objects: dict[str, int] = {}
        self.associations: dict[str, int] = {}

    def _tls_context(self, base: Path) -> ssl.SSLContext | None:
        config = self._config
        if not config.tls_certificate:
            return None
        clients = base / config.tls_client_ca if config.tls_client_ca else None
        return server_context(base / config.tls_certificate, base / config.tls_key, client_ca=clients)

    # --- running ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            ConfigError: when the port cannot be had.
        """
        ae = AE(self.ae_title)
        ae.maximum_pdu_size = self._config.max_pdu_bytes
        ae.maximum_associations = self._config.max_associations
        ae.require_called_aet = self._config.require_called_ae_title
        ae.acse_timeout = self._config.acse_timeout_s
        ae.dimse_timeout = self._config.network_timeout_s
        ae.network_timeout = self._config.network_timeout_s
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION
        handlers = [(evt.EVT_REQUESTED, self._requested), (evt.EVT_ACCEPTED, self._accepted), (evt.EVT_REJECTED, self._rejected)]
        contexts = accepted_contexts(self._config.more_sop_classes)
        address = (self._config.host, self._config.port)
        try:
            self._server = NodeServer(ae, address, self.ae_title, contexts, self, handlers, self._tls)
        except OSError as error:
            raise cannot_listen(error, *address, "dimse.port") from error
        self._server.start()
        log.info("listening", name="dimse", address=address[0], port=self.port, aet=self.ae_title)

    @property
    def port(self) -> int:
        """The port that is listened on; 0 when stopped."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    async def stop(self) -> None:
        """Stop listening, abort what is open, wait for its threads."""
        server, self._server = self._server, None
        if server is not None and not await self._workers.run(server.stop):
            log.warning("an association did not end")

    def _count(self, table: dict[str, int], what: str) -> None:
        with self._lock:
            table[what] = table.get(what, 0) + 1

    # --- association -----------------------------------------------------------------------------------------------

    def _requested(self, event: Any) -> None:
        """An association request: may this caller call?"""
        assoc: NodeAssociation = event.assoc
        title, address = str(assoc.requestor.primitive.calling_ae_title).strip(), assoc.requestor.address
        rule = self._rule(title, address)
        account = _Account(device(title, self._organisation), rule or "caller not configured", address, self._ids.uuid4().hex)
        if rule:
            assoc.account = account
            return
        self._count(self.associations, "refused")
        log.warning("caller refused", aet=title, address=address)
        self._deny(account)
        assoc.acse.send_reject(_REJECTED_PERMANENT, _SERVICE_USER, _CALLING_UNKNOWN)
        assoc.kill()

    def _rule(self, title: str, address: str) -> str:
        for caller in self._config.callers:
            if caller.matches(title, address):
                return f"caller {caller.ae_title.strip()}"
        return "any caller" if self._any_caller else ""

    def _deny(self, account: _Account) -> None:
        entry = self._entry(account, decision="deny")
        try:
            self._audit.begin_sync(entry)
            self._audit.end_sync(entry, "denied")
        except StorageError:
            log.error("audit failed", peer=account.peer)

    def _accepted(self, event: Any) -> None:
        assoc: NodeAssociation = event.assoc
        if assoc.account is not None:
            assoc.account.syntaxes = {number: str(cx.transfer_syntax[0]) for number, cx in assoc._accepted_cx.items()}
        self._count(self.associations, "accepted")

    def _rejected(self, event: Any) -> None:
        self._count(self.associations, "refused")

    def finished(self, association: NodeAssociation) -> None:
        """Close the account: the outcome of each act."""
        account: _Account | None = association.account
        association.account = None
        for act in account.acts.values() if account is not None else ():
            try:
                self._audit.end_sync(act.entry, act.outcome())
            except StorageError:
                log.error("audit failed", correlation=act.entry.correlation)

    # --- C-STORE ---------------------------------------------------------------------------------------------------

    def stage(self, association: NodeAssociation, request: StoreRequest) -> tuple[Staged, Received]:
        """A place for a data set, with its file meta written."""
        account: _Account | None = association.account
        syntax = account.syntaxes.get(request.context_id, "") if account is not None else ""
        if account is None or not syntax:
            raise StorageError("No such presentation context.")
        received = Received(
            road="dimse",
            peer=f"{account.principal.name}@{account.peer}",
            correlation=account.correlation,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=syntax,
        )
        return self._archive.stage(received), received

    def store(self, association: NodeAssociation, incoming: Incoming) -> tuple[int, str]:
        """Take in one data set: C-STORE status and comment. The audit's act is committed before success is answered."""
        account: _Account | None = association.account
        try:
            if incoming.problem is not None or incoming.staged is None or incoming.received is None or account is None:
                raise incoming.problem or StorageError("The association is not open.")
            result = self._archive.ingest(incoming.staged, incoming.received)
            self._note(account, result)
        except CrosslightError as error:
            incoming.discard()
            self._count(self.objects, "full" if isinstance(error, OutOfSpace) else "failed")
            return _status_of(error), error.what
        except Exception:
            incoming.discard()
            log.exception("store")
            self._count(self.objects, "failed")
            return CANNOT_UNDERSTAND | 0x211, "Something went wrong here"
        self._count(self.objects, result.state)
        return result.status, result.reason

    def _note(self, account: _Account, result: IngestResult) -> None:
        study = result.ref.study_uid if result.ref is not None else ""
        act = account.acts.get(study)
        if act is None:
            act = account.acts[study] = _Act(self._entry(account, study=study))
            self._audit.begin_sync(act.entry)
        act.stored += result.state == "stored"
        act.duplicates += result.state == "duplicate"
        act.failed += result.status != SUCCESS

    def _entry(self, account: _Account, *, study: str = "", decision: str = "permit") -> AuditEntry:
        return AuditEntry(
            principal=account.principal, face="dimse", action="store", decision=decision, rule=account.rule,
            correlation=f"{account.correlation}-{len(account.acts)}" if study else account.correlation,
            patients=self._archive.patients(study) if study else (), studies=[study] if study else [], peer=account.peer,
        )  # fmt: skip


def _status_of(error: CrosslightError) -> int:
    if isinstance(error, StorageError):
        return OUT_OF_RESOURCES
    return OUT_OF_RESOURCES | 0x01 if isinstance(error, TooLarge) else CANNOT_UNDERSTAND
