"""Pure rules of single publications: bounds, ownership, their place in the chain, more detail."""

from __future__ import annotations

from crosslight.standards.ids import DerivedId, Kind, is_uid, study_tag
from crosslight.standards.problem import Forbidden, Invalid, TooLarge
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.mapping import views
from crosslight.standards.xds.mapping.people import with_whole_name
from crosslight.standards.xds.model.publication import Publication
from registry.index.rows import Loaded
from registry.members.model import Member

MAX_SERIES = 20_000
MAX_TEXT = 10_240  # characters of any one text


def check_publication(publication: Publication, patient: Patient | None, member: Member) -> None:
    """Bounds and ownership, whatever the door.

    Raises:
        PeerError: what is wrong with it.
    """
    record = publication.record
    if not is_uid(record.study_uid):
        raise Invalid("The study has no UID.", where="study_uid")
    if len(record.series) > MAX_SERIES:
        raise TooLarge("The study has too many series.", why=f"Limit here: {MAX_SERIES}.", where="series")
    if len({s.series_uid for s in record.series}) != len(record.series):
        raise Invalid("A series stands twice in the study.", where="series")
    texts = (
        record.description,
        record.reason,
        record.referrer,
        record.institution,
        record.study_id,
        record.patient.name.pn,
    )
    if max(map(len, texts)) > MAX_TEXT:
        raise TooLarge("A text of the study is too long.", why=f"Limit here: {MAX_TEXT} characters.")
    if member.status == "foreign":
        return
    if publication.source.repository_unique_id != member.repository_unique_id:
        raise Forbidden("The manifest is in another member's repository.", where="repositoryUniqueId")
    if patient is not None and not member.owns(patient.local.authority):
        raise Invalid(
            "The patient's local id is not under an authority of the member's own.",
            why=f"Own are {', '.join((member.authority, *member.authorities))}.",
            todo=(
                f"Agree {patient.local.authority or 'it'} with the region's operator, then let the node read"
                " its studies again."
            ),
            where="patient.local",
        )


def following(publication: Publication, old: Loaded | None, member: Member) -> Publication:
    """``publication`` with its place in the chain (D16).

    The feed does not say what it replaces, for that is what is current here.
    """
    bare = publication
    if bare.replaces_entry_uuid or bare.replaces_uuid:
        bare = changed(publication, replaces_entry_uuid="", replaces_uuid="")
    if old is None or old.holding.state != "approved" or publication.version is None:
        return bare
    tag = study_tag(member.secret, publication.record.study_uid)
    return changed(
        bare,
        replaces_entry_uuid=old.holding.publication.entry_uuid,
        replaces_uuid=DerivedId(Kind.REPLACES, publication.version, tag).urn(),
    )


def with_detail(publication: Publication, record: StudyRecord) -> Publication:
    """The same version saying more: its XDS views answer what was submitted, to the letter (D6, D17)."""
    patient = with_whole_name(publication.record.patient, record.patient.name)
    richer = changed(publication, record=changed(record, patient=patient), extras={})
    said = (
        views.document_entry(publication, ""),
        views.submission_set(publication, ""),
        views.has_member(publication),
        views.replaces(publication),
    )
    return changed(richer, extras=views.extras_of(richer, *said))
