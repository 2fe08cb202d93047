"""What reading a foreign source's documents taught, in one transaction: one is a study's manifest, or an entry is none (D17).

ITI-18 answers the same before and after: an entry is kept as it was registered, wherever it rests (D6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from crosslight.runtime.db import Tx
from crosslight.standards.dicom.record.kos import Manifest
from crosslight.standards.region import Region
from crosslight.standards.xds.mapping.views import objects_of, publication_from_submission
from crosslight.standards.xds.model.metadata import DocumentEntry, from_plain
from registry.identity.store import IdentityStore
from registry.index.imaging import DocumentKey
from registry.index.model import Change, HoldingKey, XdsObject
from registry.index.store import IndexStore
from registry.intake.checks import check_publication, with_detail
from registry.intake.detail import manifest_record, studies_of
from registry.intake.registered import xds_object
from registry.members.model import Member


def document_read(
    tx: Tx,
    index: IndexStore,
    identity: IdentityStore,
    key: DocumentKey,
    member: Member,
    manifest: Manifest,
    region: Region,
    now: datetime,
) -> list[Change]:
    """A document that did not say of which study it is was read: a foreign source's manifest of one study becomes its entry.

    Anything else stays a document, and of which studies it is is known from then on.
    """
    work = index.work(tx, now)
    work.lock([member.id])
    thing = index.objects.waiting(tx, key)
    entry = from_plain("document", thing.body) if thing is not None else None
    if thing is None or thing.record_key is None or not isinstance(entry, DocumentEntry):
        return []
    studies = studies_of(manifest)
    if manifest.role != "manifest" or len(studies) != 1 or member.status != "foreign":
        index.objects.imaging.was_read(tx, thing, studies)
        work.note([thing], member.id, "changed", waits=False)
        work.flush()
        return work.changes
    publication = publication_from_submission(entry, source=member.source, zone=region.zone, study_uid=studies[0])
    publication = with_detail(publication, manifest_record(publication.record, manifest))
    check_publication(publication, None, member)
    index.objects.remove(tx, [thing])
    work.note([thing], member.id, "withdrawn")
    place = work.entry_under(member.id, studies[0], thing.record_key)
    work.add_entry(place, thing.record_key, publication, entry.hash.lower())
    work.flush()
    identity.compare_tx(tx, work.described, work.touched, now)
    return work.changes


def no_manifest(
    tx: Tx, index: IndexStore, identity: IdentityStore, key: HoldingKey, entry_uuid: str, studies: Sequence[str], now: datetime
) -> list[Change]:
    """An entry that was taken for a study's manifest is another Key Object Selection: a document, and no study."""
    work = index.work(tx, now)
    work.lock([key.member])
    place = work.entry_under(key.member, key.study_uid, key.record_key)
    if place.now is None:
        return []
    (holding,) = index.read.with_past(tx, [place.now])
    found = next((p for p in (holding.publication, *holding.siblings) if p.entry_uuid == entry_uuid), None)
    if found is None:
        return []
    things = [_stored(one, key) for one in objects_of(found, found.record.patient.local.cx())]
    work.remove_entries(place, {entry_uuid})
    work.note(things, key.member, "changed", waits=False)
    work.flush()
    identity.compare_tx(tx, work.described, work.touched, now)
    index.objects.put(tx, things, now)
    for thing in things:
        if thing.kind == "document":
            index.objects.imaging.was_read(tx, thing, studies)
    return work.changes


def _stored(thing: object, key: HoldingKey) -> XdsObject:
    return replace(xds_object(thing, key.record_key), member=key.member)  # type: ignore[arg-type]
