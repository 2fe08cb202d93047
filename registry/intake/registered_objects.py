"""What is registered, as the rules of ITI-42 and ITI-62 read it (D6).

Holdings, their past versions and other objects look alike here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from crosslight.runtime.clock import dtm
from crosslight.runtime.db import Tx
from crosslight.standards.xds.mapping.views import associations
from crosslight.standards.xds.model.metadata import (
    Association,
    ObjectKind,
    RegistryObject,
    from_plain,
    to_plain,
)
from crosslight.standards.xds.model.publication import Publication, Status
from registry.identity.model import PersonKey, RecordKey
from registry.identity.store import IdentityStore
from registry.index.model import Holding, XdsObject
from registry.index.read import names_of
from registry.index.store import IndexStore
from registry.intake.relations import Registered

APPROVED: Status = "Approved"
DEPRECATED: Status = "Deprecated"


class RegisteredObjects:
    """``relations.Registry`` over the index, inside a transaction and before it changes anything."""

    def __init__(self, tx: Tx, index: IndexStore, identity: IdentityStore) -> None:
        self._tx, self._index, self._identity = tx, index, identity
        self._holdings: dict[str, list[Holding]] = {}
        self._objects: dict[str, XdsObject | None] = {}
        self._unique: dict[str, list[XdsObject]] = {}
        self._persons: dict[RecordKey, PersonKey | None] = {}

    def prefetch(self, entry_uuids: Collection[str], unique_ids: Collection[str]) -> None:
        """Look these names up in few statements."""
        names = {*entry_uuids, *unique_ids}
        self._holdings = {name: [] for name in names}
        for holding in self._index.read.by_names(self._tx, names):
            for name in names & names_of(holding):
                self._holdings[name].append(holding)
        self._objects = dict.fromkeys(entry_uuids)
        self._unique = {unique_id: [] for unique_id in unique_ids}
        for stored in self._index.objects.named(self._tx, entry_uuids, unique_ids):
            if stored.entry_uuid in self._objects:
                self._objects[stored.entry_uuid] = stored
            if stored.unique_id in self._unique:
                self._unique[stored.unique_id].append(stored)

    # --- what relations.py asks -----------------------------------------------------------------------------

    def object(self, entry_uuid: str) -> Registered | None:
        """The object of this entryUUID."""
        for holding in self.holdings(entry_uuid):
            for publication in holding.entries:
                registered = self._of_version(holding, publication, entry_uuid)
                if registered is not None:
                    return registered
        stored = self.stored(entry_uuid)
        return self._of_stored(stored) if stored is not None else None

    def with_unique_id(self, unique_id: str) -> Sequence[Registered]:
        """Every object of this uniqueId."""
        registered: list[Registered] = []
        for holding in self.holdings(unique_id):
            for publication in holding.entries:
                if publication.manifest.document_uid == unique_id:
                    registered.append(self._document(holding, publication))
                if publication.submission_uid == unique_id:
                    registered.append(
                        self._other(holding, "submission", publication.submission_uuid, unique_id)
                    )
        if unique_id not in self._unique:
            self._unique[unique_id] = self._index.objects.by_unique_ids(self._tx, [unique_id])
        return [*registered, *(self._of_stored(stored) for stored in self._unique[unique_id])]

    def associations(self, entry_uuid: str) -> Sequence[Association]:
        """Every association that has this object as source or target."""
        linking: dict[str, Association] = {}
        for holding in self.holdings(entry_uuid):
            for publication in holding.entries:
                for association in associations(publication):
                    if entry_uuid in (association.source, association.target):
                        linking[association.entry_uuid] = association
        for stored in self._index.objects.linking(self._tx, [entry_uuid]):
            other = from_plain("association", stored.body)
            if isinstance(other, Association):
                linking.setdefault(other.entry_uuid, other)
        return list(linking.values())

    # --- what accept.py asks beside -------------------------------------------------------------------------

    def holdings(self, name: str) -> list[Holding]:
        """Holdings one of whose versions has this entry UUID or unique id, with their past."""
        if name not in self._holdings:
            self._holdings[name] = self._index.read.by_names(self._tx, [name])
        return self._holdings[name]

    def stored(self, entry_uuid: str) -> XdsObject | None:
        """An object that is no study."""
        if entry_uuid not in self._objects:
            objects = self._index.objects.by_uuids(self._tx, [entry_uuid])
            self._objects[entry_uuid] = objects[0] if objects else None
        return self._objects[entry_uuid]

    def person(self, key: RecordKey) -> PersonKey | None:
        """Whose record it is now."""
        if key not in self._persons:
            person = self._identity.persons_for_tx(self._tx, [key]).get(key)
            self._persons[key] = person.key if person is not None else None
        return self._persons[key]

    # --- forms ----------------------------------------------------------------------------------------------

    def _of_version(self, holding: Holding, publication: Publication, uuid: str) -> Registered | None:
        if publication.entry_uuid == uuid:
            return self._document(holding, publication)
        if publication.submission_uuid == uuid:
            return self._other(holding, "submission", uuid, publication.submission_uid)
        if uuid in (publication.has_member_uuid, publication.replaces_uuid):
            return self._other(holding, "association", uuid, "")
        return None

    def _document(self, holding: Holding, publication: Publication) -> Registered:
        return Registered(
            kind="document",
            entry_uuid=publication.entry_uuid,
            unique_id=publication.manifest.document_uid,
            approved=publication.status == APPROVED,
            patient=self.person(holding.record_key),
            hash=publication.manifest.sha1,
            size=str(publication.manifest.size_bytes),
        )

    def _other(self, holding: Holding, kind: ObjectKind, uuid: str, unique_id: str) -> Registered:
        return Registered(
            kind=kind,
            entry_uuid=uuid,
            unique_id=unique_id,
            approved=True,
            patient=self.person(holding.record_key),
        )

    def _of_stored(self, stored: XdsObject) -> Registered:
        return Registered(
            kind=stored.kind,  # type: ignore[arg-type]  # the column holds no other
            entry_uuid=stored.entry_uuid,
            unique_id=stored.unique_id,
            approved=stored.status.endswith(APPROVED),
            patient=self.person(stored.record_key) if stored.record_key is not None else None,
            hash=str(stored.body.get("hash", "")),
            size=str(stored.body.get("size", "")),
        )


def xds_object(metadata: RegistryObject, record_key: RecordKey | None) -> XdsObject:
    """An object of the metadata model as it is stored."""
    links = (metadata.source, metadata.target) if isinstance(metadata, Association) else ()
    return XdsObject(
        kind=metadata.kind,
        entry_uuid=metadata.entry_uuid,
        unique_id=getattr(metadata, "unique_id", ""),
        record_key=record_key,
        status=APPROVED,
        body=to_plain(metadata),
        member=None,
        logical_id=metadata.logical_id or metadata.entry_uuid,
        links=links,
    )


def touched(folder: XdsObject, now: datetime) -> XdsObject:
    """A folder whose contents changed (ITI TF-3 Table 4.3.1.1-1, lastUpdateTime)."""
    return replace(folder, body={**folder.body, "last_update_time": dtm(now)})
