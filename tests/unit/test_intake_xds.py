"""ITI-42 and ITI-57 into acts, and the rules about what is registered, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from crosslight.standards.ids import DerivedId, Identifier, Kind, MemberId, Oid, Version, study_tag
from crosslight.standards.problem import CrosslightError
from crosslight.standards.region import Region
from crosslight.standards.study import ManifestFacts, Patient, StudyRecord
from crosslight.standards.xds.mapping import values, views
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    Code,
    DocumentEntry,
    Folder,
    RegistryObject,
    RegistryObjects,
    SubmissionSet,
    as_text,
    from_plain,
)
from crosslight.standards.xds.model.publication import Publication
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.rules.submission import assign_ids, check_submission
from crosslight.standards.xds.wire import ebrim, ebrim_write
from registry.ihe.iti42 import acts_of
from registry.ihe.iti57 import changes_of
from registry.intake.relations import Registered, check, check_removal, effects
from registry.intake.submission import Publish, StoreObjects
from registry.members.model import Member

SECRET = b"k" * 32
REGION = Region(name="r", home_community_id=Oid("1.9"), authority=Oid("1.8"))
MEMBER = Member(
    id=MemberId(1),
    code="RTK",
    name="Ashford",
    repository_unique_id=Oid("1.2.1"),
    retrieve_location_uid=Oid("1.2.2"),
    authority=Oid("1.2.3"),
    status="active",
    secret=SECRET,
)
CX = "L1^^^&1.2.3&ISO"
_n = count(1)


def uuid() -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{next(_n):012x}"


def study(n: int = 1, *, replaces: Version | None = None, uid: str = "1.2.9") -> Publication:
    tag = study_tag(SECRET, uid)
    record = StudyRecord(study_uid=uid, patient=Patient(local=Identifier("L1", "1.2.3")), modalities=("CT",))
    document = DerivedId(Kind.DOCUMENT, Version(1, n), tag).uid()
    return Publication.derived(
        source=MEMBER.source,
        secret=SECRET,
        version=Version(1, n),
        record=record,
        replaces=replaces,
        manifest=ManifestFacts(document_uid=document, sha1="A" * 40, size_bytes=9, creation_time="20240601"),
        submission_time="20240601",
    )


def heard(objects: RegistryObjects) -> RegistryObjects:
    return ebrim.parse_submit_objects(parse_untrusted_xml(ebrim_write.render_submit_objects(objects)))


def test_own_study_is_one_act_with_its_version() -> None:
    said = views.objects_of(study(7, replaces=Version(1, 6)), CX)
    check_submission(heard(said), values.ValueSets())
    (act,) = acts_of(heard(said), MEMBER, REGION)
    assert isinstance(act, Publish)
    assert act.publication.version == Version(1, 7)
    assert act.publication.extras == {}
    assert act.digest == "a" * 40
    assert act.patient_cx == CX
    assert views.objects_of(act.publication, CX) == said


def report(**changes: str) -> DocumentEntry:
    entry = views.document_entry(study(3, uid="1.2.10"), CX)
    pdf = Code("urn:ihe:rad:PDF", "1.3.6.1.4.1.19376.1.2.3")
    return replace(
        entry, entry_uuid=uuid(), unique_id="1.2.77", format_code=pdf, mime_type="application/pdf", **changes
    )  # type: ignore[arg-type]


def complex_submission() -> RegistryObjects:
    """Two manifests, a report and a folder in one SubmissionSet, with symbolic ids."""
    first = replace(
        views.document_entry(study(1), CX), entry_uuid="kos1", unique_id="1.2.71", comments=as_text("kept")
    )
    second = replace(views.document_entry(study(2, uid="1.2.11"), CX), entry_uuid="kos2", unique_id="1.2.72")
    sset = SubmissionSet(
        entry_uuid="ss",
        unique_id="1.2.73",
        patient_id=CX,
        source_id="1.2.1",
        submission_time="2024",
        content_type=values.IMAGING,
    )
    folder = Folder(
        entry_uuid="fol", unique_id="1.2.74", patient_id=CX, title=as_text("f"), codes=(values.IMAGING,)
    )
    documents = (first, second, replace(report(), entry_uuid="pdf"))
    links = [
        Association(
            entry_uuid=f"a{d}", type=v.HAS_MEMBER, source="ss", target=d, submission_set_status="Original"
        )
        for d in ("kos1", "kos2", "pdf")
    ]
    links += [
        Association(entry_uuid="b", type=v.HAS_MEMBER, source="fol", target="kos1"),
        Association(entry_uuid="c", type=v.APND, source="pdf", target="kos1"),
        Association(
            entry_uuid="d", type=v.RPLC, source="kos2", target="urn:uuid:11111111-1111-4111-8111-111111111111"
        ),
    ]
    return RegistryObjects(
        documents=documents, submissions=(sset,), folders=(folder,), associations=tuple(links)
    )


def test_everything_of_a_mixed_submission_is_kept_once() -> None:
    from uuid import UUID

    objects = assign_ids(heard(complex_submission()), lambda: UUID(uuid().removeprefix("urn:uuid:")))
    assert all(o.entry_uuid.startswith("urn:uuid:") for o in objects)
    check_submission(objects, values.ValueSets())
    acts = acts_of(objects, MEMBER, REGION)
    publishes = [a for a in acts if isinstance(a, Publish)]
    (rest,) = [a for a in acts if isinstance(a, StoreObjects)]
    kept: list[RegistryObject] = [o for p in publishes for o in views.objects_of(p.publication, CX)]
    kept += [from_plain(o.kind, o.body) for o in rest.objects]
    assert {o.entry_uuid: o for o in kept} == {o.entry_uuid: o for o in objects}
    assert len(kept) == len(objects)
    assert [p.publication.replaces_entry_uuid for p in publishes] == [
        "",
        "urn:uuid:11111111-1111-4111-8111-111111111111",
    ]


def test_a_manifest_in_another_repository_is_no_study_of_this_member() -> None:
    objects = views.objects_of(study(), CX)
    elsewhere = replace(objects, documents=(replace(objects.documents[0], repository_unique_id="9.9"),))
    (act,) = acts_of(elsewhere, MEMBER, REGION)
    assert isinstance(act, StoreObjects)
    assert len(act.objects) == 3


# --- what is registered -------------------------------------------------------------------------------------


class Shelf:
    """``relations.Registry`` over a few objects."""

    def __init__(
        self, things: Sequence[RegistryObject], *, deprecated: tuple[str, ...] = (), patient: int = 1
    ) -> None:
        self.things = {t.entry_uuid: t for t in things}
        self.deprecated, self.patient = deprecated, patient

    def object(self, entry_uuid: str) -> Registered | None:
        thing = self.things.get(entry_uuid)
        if thing is None:
            return None
        entry = thing if isinstance(thing, DocumentEntry) else None
        return Registered(
            kind=thing.kind,
            entry_uuid=entry_uuid,
            unique_id=getattr(thing, "unique_id", ""),
            approved=entry_uuid not in self.deprecated,
            patient=self.patient,
            hash=entry.hash if entry else "",
            size=entry.size if entry else "",
        )

    def with_unique_id(self, unique_id: str) -> list[Registered]:
        found = [self.object(u) for u, t in self.things.items() if getattr(t, "unique_id", "") == unique_id]
        return [r for r in found if r is not None]

    def associations(self, entry_uuid: str) -> list[Association]:
        return [
            t
            for t in self.things.values()
            if isinstance(t, Association) and entry_uuid in (t.source, t.target)
        ]


OLD = views.objects_of(study(1), CX)
NEW = views.objects_of(study(2, replaces=Version(1, 1)), CX)


def refused(objects: RegistryObjects, shelf: Shelf) -> str:
    with pytest.raises(CrosslightError) as caught:
        check(objects, shelf, 1)
    return caught.value.xds_code


def test_replacement_and_its_refusals() -> None:
    shelf = Shelf(list(OLD))
    check(NEW, shelf, 1)
    entry = OLD.documents[0]
    assert effects(NEW, shelf, uuid).deprecate == (entry.entry_uuid,)
    assert refused(NEW, Shelf([])) == "UnresolvedReferenceException"
    assert (
        refused(NEW, Shelf(list(OLD), deprecated=(entry.entry_uuid,))) == "XDSRegistryDeprecatedDocumentError"
    )
    assert refused(NEW, Shelf(list(OLD), patient=2)) == "XDSPatientIdDoesNotMatch"
    assert refused(OLD, shelf) == "XDSDuplicateUniqueIdInRegistry"


def test_a_replay_is_a_duplicate_also_without_its_submission_set() -> None:
    fresh = replace(OLD, submissions=(), associations=())
    assert refused(fresh, Shelf(OLD.documents)) == "XDSDuplicateUniqueIdInRegistry"


@pytest.mark.parametrize(
    ("change", "code"), [({"hash": "b" * 40}, "XDSNonIdenticalHash"), ({"size": "8"}, "XDSNonIdenticalSize")]
)
def test_same_document_other_content(change: dict[str, str], code: str) -> None:
    entry = replace(OLD.documents[0], entry_uuid=uuid(), **change)  # type: ignore[arg-type]
    again = RegistryObjects(documents=(entry,))
    assert refused(again, Shelf(OLD.documents)) == code
    check(RegistryObjects(documents=(replace(entry, hash="a" * 40, size="9"),)), Shelf(OLD.documents), 1)


def test_successor_joins_the_folder_and_takes_children_along() -> None:
    entry = OLD.documents[0]
    folder = Folder(entry_uuid=uuid(), unique_id="1.5", patient_id=CX)
    child, grandchild = report(), replace(report(), entry_uuid=uuid(), unique_id="1.2.78")
    shelf = Shelf(
        [
            *OLD,
            folder,
            child,
            grandchild,
            Association(
                entry_uuid=uuid(), type=v.HAS_MEMBER, source=folder.entry_uuid, target=entry.entry_uuid
            ),
            Association(entry_uuid=uuid(), type=v.APND, source=child.entry_uuid, target=entry.entry_uuid),
            Association(
                entry_uuid=uuid(), type=v.XFRM, source=grandchild.entry_uuid, target=child.entry_uuid
            ),
        ]
    )
    caused = effects(NEW, shelf, uuid)
    assert set(caused.deprecate) == {entry.entry_uuid, child.entry_uuid, grandchild.entry_uuid}
    member, link = caused.add
    assert (member.source, member.target) == (folder.entry_uuid, NEW.documents[0].entry_uuid)
    assert (link.source, link.target) == (NEW.submissions[0].entry_uuid, member.entry_uuid)
    assert caused.touch == (folder.entry_uuid,)


def test_removal_of_a_chain_and_of_less() -> None:
    shelf = Shelf([*OLD, *NEW])
    chain = [o.entry_uuid for o in (*OLD, *NEW)]
    assert {r.entry_uuid for r in check_removal(chain, shelf)} == set(chain)

    def refused_removal(uuids: list[str]) -> str:
        with pytest.raises(CrosslightError) as caught:
            check_removal(uuids, shelf)
        return caught.value.xds_code

    assert refused_removal([uuid()]) == "UnresolvedReferenceException"
    assert refused_removal([NEW.documents[0].entry_uuid]) == "ReferencesExistException"
    assert (
        refused_removal([o.entry_uuid for o in NEW if o.kind != "association"]) == "ReferencesExistException"
    )
    keep_entry = [
        o.entry_uuid for o in (*OLD, *NEW) if o is not OLD.documents[0] and o is not NEW.documents[0]
    ]
    assert refused_removal(keep_entry) == "XDSUnreferencedObjectException"


# --- ITI-57 -------------------------------------------------------------------------------------------------


def update(**changes: str) -> RegistryObjects:
    sset = OLD.submissions[0]
    link = Association(
        entry_uuid=uuid(),
        type=v.UPDATE_AVAILABILITY,
        source=sset.entry_uuid,
        target=OLD.documents[0].entry_uuid,
        original_status=v.APPROVED,
        new_status=v.DEPRECATED,
    )
    return RegistryObjects(submissions=(sset,), associations=(replace(link, **changes),))  # type: ignore[arg-type]


def test_availability_both_ways() -> None:
    (act,) = changes_of(heard(update()))
    assert (act.entry_uuid, act.original, act.status) == (
        OLD.documents[0].entry_uuid,
        "Approved",
        "Deprecated",
    )
    assert act.version == Version(1, 1)
    (back,) = changes_of(update(original_status=v.DEPRECATED, new_status=v.APPROVED))
    assert back.status == "Approved"


@pytest.mark.parametrize(
    ("objects", "code"),
    [
        (update(new_status=v.APPROVED), "XDSRegistryMetadataError"),
        (update(original_status=""), "XDSRegistryMetadataError"),
        (update(source="urn:uuid:x"), "XDSRegistryMetadataError"),
        (update(target="Document01"), "XDSRegistryMetadataError"),
        (update(type=v.HAS_MEMBER), "XDSMetadataUpdateOperationError"),
        (replace(update(), documents=OLD.documents), "XDSMetadataUpdateOperationError"),
        (replace(update(), submissions=()), "XDSRegistryMetadataError"),
    ],
)
def test_updates_refused(objects: RegistryObjects, code: str) -> None:
    with pytest.raises(CrosslightError) as caught:
        changes_of(objects)
    assert caught.value.xds_code == code
