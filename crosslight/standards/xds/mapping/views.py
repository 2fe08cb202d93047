"""A Publication as DocumentEntry, SubmissionSet and associations, and back.

RAD TF-3 4.68, ITI TF-3 4.3.1; D6.

The views have the form in which a source submits; :func:`registered` adds what a registry answers with. What
a submitter said otherwise than the views would is kept in ``Publication.extras`` (:func:`extras_of`), member
by member, and merged here: ITI-42 to ITI-18 loses nothing.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

from crosslight.standards.ids import CXI_ACCESSION, CXI_ORDER, DerivedId, Identifier, Kind, Version, study_tag
from crosslight.standards.problem import Invalid
from crosslight.standards.records import changed
from crosslight.standards.study import ManifestFacts, Patient, StudyRecord
from crosslight.standards.xds.mapping import values
from crosslight.standards.xds.mapping.people import patient_of, source_patient_info, xon
from crosslight.standards.xds.mapping.references import identifiers_of, references_of, study_uid_of
from crosslight.standards.xds.mapping.study_times import service_times, study_time
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    CLASSES,
    Association,
    Author,
    Code,
    DocumentEntry,
    RegistryObject,
    RegistryObjects,
    Slot,
    SubmissionSet,
    as_text,
    field_from_plain,
    plain_text,
    to_plain,
)
from crosslight.standards.xds.model.publication import Publication, Source
from crosslight.standards.xds.model.xml import legal

MAX_TITLE = 1024  # rim:FreeFormText
#: Said anew by whoever renders, never kept from a submission.
_RENDERED = frozenset({"entry_uuid", "status", "home", "logical_id", "version", "patient_id"})
_KEPT = {kind: [f.name for f in fields(cls) if f.name not in _RENDERED] for kind, cls in CLASSES.items()}
_KEPT_OF = {kind: attrgetter(*names) for kind, names in _KEPT.items()}
_GROWING = (Slot(v.PROGRESS_SLOT, (v.ARRIVING,)),)
ObjectT = TypeVar("ObjectT", DocumentEntry, SubmissionSet, Association)


def document_entry(publication: Publication, patient_cx: str) -> DocumentEntry:
    """The DocumentEntry of a study's manifest; ``patient_cx`` is DocumentEntry.patientId."""
    return _merged(_plain_entry(publication, patient_cx), publication.extras.get("entry"))


def _plain_entry(
    publication: Publication, patient_cx: str, status: str = "", home: str = ""
) -> DocumentEntry:
    """The DocumentEntry alone; ``status`` and ``home`` are a registry's.

    Which then answers logical id and version too (:func:`registered`).
    """
    record, manifest, source = publication.record, publication.manifest, publication.source
    start, stop = service_times(record.time)
    source_patient_id, source_patient = _patient(record.patient)
    sites = (values.body_site_code(site) for site in record.body_sites)
    kind, confidentiality = values.codes_of(record, source.procedure_codes)
    modalities = tuple([values.modality_code(legal(m)) for m in record.headline_modalities])
    return DocumentEntry(
        entry_uuid=publication.entry_uuid,
        status=status,
        home=home,
        logical_id=publication.entry_uuid if status else "",
        version="1" if status else "",
        unique_id=manifest.document_uid,
        patient_id=patient_cx,
        mime_type=values.MANIFEST_MIME,
        title=as_text(legal(record.description)[:MAX_TITLE]),
        creation_time=manifest.creation_time,
        language_code=values.LANGUAGE,
        service_start_time=start,
        service_stop_time=stop,
        source_patient_id=source_patient_id,
        source_patient_info=source_patient,
        hash=manifest.sha1,
        size=str(manifest.size_bytes),
        repository_unique_id=source.repository_unique_id,
        reference_ids=references_of(record),
        authors=(_author(source),),
        class_code=values.IMAGES,
        type_code=kind,
        format_code=values.KOS_FORMAT,
        healthcare_facility_type=values.HOSPITAL,
        practice_setting=values.RADIOLOGY,
        confidentiality=(confidentiality,),
        event_codes=tuple(dict.fromkeys((*modalities, *(s for s in sites if s is not None)))),
        slots=_GROWING if record.progress == "arriving" else (),
    )


@lru_cache(maxsize=64)  # most entries of an answer say the same patient
def _patient(patient: Patient) -> tuple[str, tuple[str, ...]]:
    """sourcePatientId and sourcePatientInfo."""
    return legal(patient.local.cx()), tuple(legal(i) for i in source_patient_info(patient))


@lru_cache(maxsize=256)
def _author(source: Source) -> Author:
    return Author(
        institutions=(legal(xon(source.name or source.code, source.code, source.organisation_authority)),)
    )


def submission_set(publication: Publication, patient_cx: str) -> SubmissionSet | None:
    """The SubmissionSet that brought this version.

    None where it brought other things too and is stored whole.
    """
    if not publication.submission_uuid:
        return None
    return _merged(_plain_submission(publication, patient_cx), publication.extras.get("submission"))


def _plain_submission(publication: Publication, patient_cx: str) -> SubmissionSet:
    return SubmissionSet(
        entry_uuid=publication.submission_uuid,
        unique_id=publication.submission_uid,
        patient_id=patient_cx,
        source_id=publication.source.repository_unique_id,
        submission_time=publication.submission_time,
        authors=(_author(publication.source),),
        content_type=values.IMAGING,
    )


def has_member(publication: Publication) -> Association | None:
    """SubmissionSet -> DocumentEntry; None as :func:`submission_set`."""
    if not publication.submission_uuid or not publication.has_member_uuid:
        return None
    return _merged(_plain_member(publication), publication.extras.get("has_member"))


def _plain_member(publication: Publication) -> Association:
    return Association(
        entry_uuid=publication.has_member_uuid,
        type=v.HAS_MEMBER,
        source=publication.submission_uuid,
        target=publication.entry_uuid,
        submission_set_status="Original",
    )


def replaces(publication: Publication) -> Association | None:
    """The RPLC association, where this version replaced one."""
    if not publication.replaces_entry_uuid or not publication.replaces_uuid:
        return None
    return _merged(_plain_replaces(publication), publication.extras.get("replaces"))


def _plain_replaces(publication: Publication) -> Association:
    return Association(
        entry_uuid=publication.replaces_uuid,
        type=v.RPLC,
        source=publication.entry_uuid,
        target=publication.replaces_entry_uuid,
    )


def associations(publication: Publication) -> tuple[Association, ...]:
    """HasMember and RPLC, as far as there are."""
    return tuple(a for a in (has_member(publication), replaces(publication)) if a is not None)


def objects_of(publication: Publication, patient_cx: str) -> RegistryObjects:
    """All that a submission of this version says."""
    submission = submission_set(publication, patient_cx)
    return RegistryObjects(
        documents=(document_entry(publication, patient_cx),),
        submissions=(submission,) if submission is not None else (),
        associations=associations(publication),
    )


def registered_objects(publication: Publication, patient_cx: str, home: str) -> RegistryObjects:
    """The same as a registry answers it: with status, logical id, version and ``home`` (``urn:oid:``)."""
    said = objects_of(publication, patient_cx)
    return RegistryObjects(
        documents=tuple(registered(d, v.STATUS + publication.status, home) for d in said.documents),
        submissions=tuple(registered(s, v.APPROVED, home) for s in said.submissions),
        associations=tuple(registered(a, v.APPROVED, home) for a in said.associations),
    )


def registered_document(publication: Publication, patient_cx: str, home: str) -> DocumentEntry:
    """The DocumentEntry alone, as a registry answers it."""
    entry = _plain_entry(publication, patient_cx, v.STATUS + publication.status, home)
    return _merged(entry, publication.extras.get("entry"))


def registered(submitted: ObjectT, status: str, home: str) -> ObjectT:
    """An object as a registry holds it: version 1 is its own logical id (ITI TF-3 4.2.3.2.14)."""
    return replace(
        submitted,
        status=status,
        home=home,
        logical_id=submitted.logical_id or submitted.entry_uuid,
        version=submitted.version or "1",
    )


# --- what a submitter said otherwise ------------------------------------------------------------------------


def _merged(view: ObjectT, extras: dict[str, Any] | None) -> ObjectT:
    if not extras:
        return view
    return replace(view, **{name: field_from_plain(view.kind, name, plain) for name, plain in extras.items()})


def _difference(view: RegistryObject | None, submitted: RegistryObject | None) -> dict[str, Any]:
    if view is None or submitted is None:
        return {}
    kept = _KEPT_OF[view.kind]
    said, seen = kept(submitted), kept(view)
    if said == seen:
        return {}
    names = _KEPT[view.kind]
    return {name: to_plain(own) for name, own, other in zip(names, said, seen, strict=True) if own != other}


def extras_of(
    publication: Publication,
    entry: DocumentEntry,
    submission: SubmissionSet | None = None,
    member: Association | None = None,
    replacing: Association | None = None,
) -> dict[str, Any]:
    """All that the views of ``publication`` would not reproduce of what was submitted.

    Empty for our own nodes' entries.
    """
    bare = changed(publication, extras={})
    extras = {
        "entry": _difference(_plain_entry(bare, entry.patient_id), entry),
        "submission": _difference(_plain_submission(bare, "") if submission else None, submission),
        "has_member": _difference(_plain_member(bare) if member else None, member),
        "replaces": _difference(_plain_replaces(bare) if replacing else None, replacing),
    }
    return {name: said for name, said in extras.items() if said}


# --- back ---------------------------------------------------------------------------------------------------


def own_version(entry: DocumentEntry, secret: bytes) -> Version | None:
    """The version of one of our own entries, recognised by its derived ids and the member's secret (D9).

    Else None.
    """
    derived, document = DerivedId.parse(entry.entry_uuid), DerivedId.parse(entry.unique_id)
    if derived is None or document is None or not secret:
        return None
    tag = study_tag(secret, study_uid_of(entry.reference_ids))
    if (
        derived.kind != Kind.DOCUMENT_ENTRY
        or document.kind != Kind.DOCUMENT
        or derived.version != document.version
    ):
        return None
    return derived.version if derived.tag == document.tag == tag else None


def publication_from_submission(
    entry: DocumentEntry,
    *,
    study_uid: str = "",
    source: Source,
    secret: bytes = b"",
    zone: str = "",
    submission: SubmissionSet | None = None,
    member: Association | None = None,
    replacing: Association | None = None,
) -> Publication:
    """The study that a manifest's DocumentEntry registers; detail ``entry`` until it is enriched (D17).

    Args:
        entry: With ``imaging.is_manifest``, or of the study that its bytes name.
        study_uid: Of that study; '' where the entry says it.
        source: Whose repository it is in.
        secret: That member's, to recognise our own ids; b'' for a foreign one.
        zone: The region's, in which times are written.
        submission, member: None where the submission is stored whole (it brought more than this study).
        replacing: Its RPLC association.

    Raises:
        Invalid: a source patient id or size that cannot be read.
    """
    size = entry.size
    if not size.isascii() or not size.isdecimal():
        raise Invalid("DocumentEntry.size is not a number.", where=entry.entry_uuid)
    publication = Publication(
        source=source,
        record=_record_of(entry, zone, study_uid or study_uid_of(entry.reference_ids)),
        manifest=ManifestFacts(
            document_uid=entry.unique_id,
            sha1=entry.hash,
            size_bytes=int(size),
            creation_time=entry.creation_time,
        ),
        version=own_version(entry, secret),
        entry_uuid=entry.entry_uuid,
        submission_uuid=submission.entry_uuid if submission is not None else "",
        submission_uid=submission.unique_id if submission is not None else "",
        submission_time=submission.submission_time if submission is not None else "",
        has_member_uuid=member.entry_uuid if member is not None else "",
        replaces_entry_uuid=replacing.target if replacing is not None else "",
        replaces_uuid=replacing.entry_uuid if replacing is not None else "",
    )
    return changed(publication, extras=extras_of(publication, entry, submission, member, replacing))


def _record_of(entry: DocumentEntry, zone: str, study_uid: str) -> StudyRecord:
    local = Identifier.parse_cx(entry.source_patient_id)
    sites = dict.fromkeys(site for c in entry.event_codes if (site := values.body_site_of(c)))
    return StudyRecord(
        study_uid=study_uid,
        patient=patient_of(local, entry.source_patient_info),
        accessions=identifiers_of(entry.reference_ids, CXI_ACCESSION),
        orders=identifiers_of(entry.reference_ids, CXI_ORDER),
        description=plain_text(entry.title),
        time=study_time(entry.service_start_time, entry.service_stop_time, zone),
        modalities=tuple(sorted(_modalities(entry.event_codes))),
        body_sites=tuple(sorted(sites)),
        detail="entry",
        progress="arriving" if _GROWING[0] in entry.slots else "complete",
    )


def _modalities(codes: tuple[Code, ...]) -> set[str]:
    return {modality for code in codes if (modality := values.modality_of(code))}
