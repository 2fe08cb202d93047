"""The registry's XDS face over both databases, and our own nodes: a study's life, who reads and changes what,
refusals.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
import pytest_asyncio
from callers import caller
from registry_samples import grown, patient, published, study
from xds_nist import new_uuid
from xds_registry import (
    HOME,
    NATIONAL,
    NUMBER,
    XdsRegistry,
    code,
    documents_of,
    found,
    node_of,
    xds_registry,
)

from crosslight.runtime.db import Db
from crosslight.standards.ids import DerivedId, Kind, Version, study_tag
from crosslight.standards.problem import Forbidden
from crosslight.standards.xds.mapping import values, views
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    RegistryObjects,
    SubmissionSet,
)
from crosslight.standards.xds.model.publication import Publication
from crosslight.standards.xds.rules import stored_query as q
from crosslight.standards.xds.wire.adhoc import AdhocQuery
from crosslight.standards.xds.wire.response import SUCCESS
from registry.ihe.admission import Admission


@pytest_asyncio.fixture
async def registry(database: Db) -> AsyncIterator[XdsRegistry]:
    async with xds_registry(database, check_codes=False) as made:
        yield made


async def test_a_studys_life_over_soap(registry: XdsRegistry) -> None:
    home = registry.directory.members[next(iter(registry.directory.members))]
    registry.principal = node_of(home)
    who = patient(home, "L1", number=NUMBER, traced=True)
    record = study(who, 1)
    cx = who.local.cx()
    first = published(home, record, 1)
    said = views.objects_of(first, cx)

    unknown = await registry.register(said)
    assert code(unknown) == "XDSUnknownPatientId"
    assert unknown.errors[0].context.endswith(cx), "the context names the id (ITI TF-3 Table 4.2.4.1-2)"
    await registry.feed(who, home.id)
    assert (await registry.register(said)).success

    # found by the local and by the national number, under the national one
    for asked in (cx, NATIONAL.cx()):
        reply = await found(registry, documents_of(asked))
        (entry,) = reply.objects.documents
        assert entry == views.registered_objects(first, NATIONAL.cx(), HOME).documents[0]
        assert {name for name, _ in reply.slots} == {
            f"urn:crosslight:coverage:{m.code}" for m in registry.directory.all()
        }

    # a replay is refused, and nothing is doubled
    assert code(await registry.register(said)) == "XDSDuplicateUniqueIdInRegistry"

    second = published(home, grown(record, 2), 2, replaces=1)
    assert (await registry.register(views.objects_of(second, cx))).success
    reply = await found(registry, documents_of(cx))
    assert [d.entry_uuid for d in reply.objects.documents] == [second.entry_uuid]
    reply = await found(registry, documents_of(cx, v.DEPRECATED))
    (old,) = reply.objects.documents
    assert old == views.registered_objects(first.with_status("Deprecated"), NATIONAL.cx(), HOME).documents[0]
    again = published(home, grown(record, 3), 3, replaces=1)
    assert code(await registry.register(views.objects_of(again, cx))) == "XDSRegistryDeprecatedDocumentError"

    # by id: both versions, their submission sets and associations
    reply = await found(registry, q.get_documents([first.entry_uuid, second.entry_uuid, new_uuid().urn]))
    assert {d.entry_uuid: d.status for d in reply.objects.documents} == {
        first.entry_uuid: v.DEPRECATED,
        second.entry_uuid: v.APPROVED,
    }
    reply = await found(registry, q.get_associations([first.entry_uuid]))
    assert {(a.type, a.source, a.target) for a in reply.objects.associations} == {
        (v.HAS_MEMBER, first.submission_uuid, first.entry_uuid),
        (v.RPLC, second.entry_uuid, first.entry_uuid),
    }
    sets = AdhocQuery(
        query_id=q.GET_SUBMISSION_SETS, parameters=(("$uuid", q.quoted_list([second.entry_uuid])),)
    )
    reply = await found(registry, sets)
    assert [s.entry_uuid for s in reply.objects.submissions] == [second.submission_uuid]
    assert [a.entry_uuid for a in reply.objects.associations] == [second.has_member_uuid]

    # deleted, and back (ITI-57)
    await deprecate_and_approve(
        registry, second.entry_uuid, second.version, home.secret, record.study_uid, cx
    )

    # withdrawn (ITI-62): only whole
    chain = [o.entry_uuid for p in (first, second) for o in views.objects_of(p, cx)]
    assert code(await registry.remove(chain[:-1])) == "ReferencesExistException"
    assert code(await registry.remove([new_uuid().urn])) == "UnresolvedReferenceException"
    assert (await registry.remove(chain)).success
    reply = await found(registry, documents_of(cx, v.APPROVED, v.DEPRECATED))
    assert len(reply.objects) == 0
    assert len((await found(registry, q.get_associations(chain))).objects) == 0


async def deprecate_and_approve(
    registry: XdsRegistry, entry_uuid: str, version: Version | None, secret: bytes, study_uid: str, cx: str
) -> None:
    def change(n: int, original: str, new: str) -> RegistryObjects:
        tag = study_tag(secret, study_uid)
        sset = SubmissionSet(
            entry_uuid=DerivedId(Kind.SUBMISSION_SET, Version(1, n), tag).urn(),
            unique_id=DerivedId(Kind.SUBMISSION, Version(1, n), tag).uid(),
            patient_id=cx,
            source_id="1.2.3",
            submission_time="2026",
            content_type=values.IMAGING,
        )
        link = Association(
            entry_uuid=DerivedId(Kind.AVAILABILITY, Version(1, n), tag).urn(),
            type=v.UPDATE_AVAILABILITY,
            source=sset.entry_uuid,
            target=entry_uuid,
            original_status=original,
            new_status=new,
        )
        return RegistryObjects(submissions=(sset,), associations=(link,))

    assert (await registry.update(change(10, v.APPROVED, v.DEPRECATED))).success
    assert code(await registry.update(change(11, v.APPROVED, v.DEPRECATED))) == "XDSMetadataVersionError"
    assert len((await found(registry, documents_of(cx))).objects) == 0
    reply = await found(registry, q.get_documents([entry_uuid]))
    assert [d.status for d in reply.objects.documents] == [v.DEPRECATED]
    assert (await registry.update(change(12, v.DEPRECATED, v.APPROVED))).success
    assert [d.entry_uuid for d in (await found(registry, documents_of(cx))).objects.documents] == [entry_uuid]


async def test_subsumed_id_answers_empty_and_is_refused(registry: XdsRegistry) -> None:
    home = next(iter(registry.directory.members.values()))
    registry.principal = node_of(home)
    old, new = patient(home, "OLD"), patient(home, "NEW")
    for who in (old, new):
        await registry.feed(who, home.id)
    publication = published(home, study(old, 3), 1)
    assert (await registry.register(views.objects_of(publication, old.local.cx()))).success
    await registry.merge(new.local, old.local)
    assert len((await found(registry, documents_of(old.local.cx()))).objects) == 0
    survivor = await found(registry, documents_of(new.local.cx()))
    assert [d.entry_uuid for d in survivor.objects.documents] == [publication.entry_uuid]
    other = published(home, study(old, 4), 2)
    assert code(await registry.register(views.objects_of(other, old.local.cx()))) == "XDSUnknownPatientId"
    assert len((await found(registry, documents_of("nobody^^^&1.2.3&ISO"))).objects) == 0


async def test_home_is_passed_over_and_answers_name_their_own(registry: XdsRegistry) -> None:
    """As NIST 11901 expects of a registry, of which communities are a gateway's business."""
    home = next(iter(registry.directory.members.values()))
    registry.principal = node_of(home)
    who = patient(home, "HOME")
    await registry.feed(who, home.id)
    assert (
        await registry.register(views.objects_of(published(home, study(who, 5), 1), who.local.cx()))
    ).success
    for asked in ("", HOME, "urn:oid:1.2.3"):
        (document,) = (
            await found(registry, replace(documents_of(who.local.cx()), home=asked))
        ).objects.documents
        assert document.home == HOME, asked


async def test_a_member_cannot_touch_anothers(registry: XdsRegistry) -> None:
    mine, other = list(registry.directory.members.values())[:2]
    who = patient(mine, "L1", number=NUMBER)
    await registry.feed(who, mine.id)
    publication = published(mine, study(who, 5), 1)
    said = views.objects_of(publication, who.local.cx())
    registry.principal = node_of(other)
    with pytest.raises(Forbidden):
        await registry.register(said)
    registry.principal = node_of(mine)
    assert (await registry.register(said)).success
    registry.principal = node_of(other)
    with pytest.raises(Forbidden):
        await registry.remove([o.entry_uuid for o in said])
    registry.principal = replace(node_of(other), roles=frozenset({"porter"}))
    with pytest.raises(Forbidden):
        await registry.query(documents_of(who.local.cx()))
    outcomes = [e.decision for e in await registry.audit.search() if e.face == "xds"]
    assert outcomes.count("deny") == 1


async def test_a_node_reads_its_own_entries_by_their_ids_and_nothing_else(registry: XdsRegistry) -> None:
    """What it needs to settle what may have been registered (D15); a stolen key reads no patient."""
    mine, other = list(registry.directory.members.values())[:2]
    published_by: dict[str, Publication] = {}
    for home, local in ((mine, "L1"), (other, "L2")):
        who = patient(home, local, number=NUMBER)
        await registry.feed(who, home.id)
        registry.principal = node_of(home)
        one = published_by[home.code] = published(home, study(who, 5), 1)
        assert (await registry.register(views.objects_of(one, who.local.cx()))).success
    own, theirs = published_by[mine.code], published_by[other.code]
    registry.principal = node_of(mine)
    both = [own.entry_uuid, theirs.entry_uuid]
    reply = await registry.query(q.get_documents(both))
    assert [d.entry_uuid for d in reply.objects.documents] == [own.entry_uuid]
    reply = await registry.query(q.get_associations(both))
    assert {a.target for a in reply.objects.associations} == {own.entry_uuid}
    reply = await registry.query(q.get_documents([theirs.entry_uuid], return_type="ObjectRef"))
    assert (reply.status, reply.refs) == (SUCCESS, ())
    for asked in (NATIONAL.cx(), own.record.patient.local.cx()):
        with pytest.raises(Forbidden, match="its own entries"):
            await registry.query(documents_of(asked))
    denied = [act for act in await registry.audit.search() if act.decision == "deny"]
    assert {(act.who.subject, act.action) for act in denied} == {(mine.code, "search")}
    assert len((await found(registry, documents_of(NATIONAL.cx()))).objects.documents) == 2


async def test_ids_of_several_patients_only_as_refs(registry: XdsRegistry) -> None:
    home = next(iter(registry.directory.members.values()))
    registry.principal = node_of(home)
    uuids = []
    for n, local in enumerate(("A", "B"), 1):
        who = patient(home, local)
        await registry.feed(who, home.id)
        publication = published(home, study(who, n), n)
        assert (await registry.register(views.objects_of(publication, who.local.cx()))).success
        uuids.append(publication.entry_uuid)
    assert code(await registry.query(q.get_documents(uuids))) == "XDSResultNotSinglePatient"
    refs = await found(registry, q.get_documents(uuids, return_type="ObjectRef"))
    assert set(refs.refs) == {(uuid, HOME) for uuid in uuids}


async def test_a_sender_who_hangs_up_is_cut_off_not_refused(database: Db) -> None:
    """What it sent may have been accepted: its act says so, rather than a wrong outcome (D20)."""
    async with xds_registry(database) as registry:
        admission = Admission(registry.directory, registry.foreign, registry.audit, cast(Any, None))
        with pytest.raises(asyncio.CancelledError):
            async with admission.act(caller(registry.principal, "gone"), "xds", "publish"):
                raise asyncio.CancelledError
        await registry.audit.settle()
        assert [act.text for act in await registry.audit.search(correlation="gone")] == ["cut"]
