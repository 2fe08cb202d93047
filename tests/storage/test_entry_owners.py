"""Documents of an outside source are those of the system that registered them, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from foreign_region import REPOSITORY, ForeignRegion, foreign_region, manifest

from crosslight.runtime.db import Db
from crosslight.standards.access import BEFORE_GRANTS, INTEGRATOR, OPEN, Grants, Principal
from crosslight.standards.problem import Forbidden

OTHER = "1.2.3.4.5.6"


def system(name: str, grants: Grants) -> Principal:
    return Principal(
        subject=f"system:{name}", roles=frozenset({INTEGRATOR}), evidence="certificate", grants=grants
    )


def publishing(name: str, *repositories: str) -> Principal:
    return system(
        name, Grants(capabilities=frozenset({"find", "publish"}), repositories=frozenset(repositories))
    )


FIRST, SECOND = publishing("first", REPOSITORY, OTHER), publishing("second", REPOSITORY)


@pytest.fixture
async def region(database: Db) -> AsyncIterator[ForeignRegion]:
    async with foreign_region(database) as made:
        yield made


async def test_what_another_system_registered_is_not_changed_or_removed(region: ForeignRegion) -> None:
    region.xds.principal = FIRST
    theirs = manifest("theirs")
    await region.register(theirs)
    region.xds.principal = SECOND
    mine = manifest("mine")
    await region.register(mine)
    for attack in (
        region.update(theirs, "Deprecated"),
        region.remove(theirs),
        region.remove(theirs, mine),
        region.register(manifest("in its place", replaces=theirs)),
    ):
        with pytest.raises(Forbidden, match="another's"):
            await attack
    assert await region.statuses() == {"theirs": "Approved", "mine": "Approved"}
    await region.assert_lossless()
    region.xds.principal = FIRST
    await region.update(theirs, "Deprecated")
    await region.update(theirs, "Approved")
    await region.register(manifest("newer", replaces=theirs))
    assert await region.statuses() == {"theirs": "Deprecated", "mine": "Approved", "newer": "Approved"}
    region.xds.principal = SECOND
    await region.remove(mine)
    region.xds.principal = FIRST
    assert await region.statuses() == {"theirs": "Deprecated", "newer": "Approved"}


async def test_a_system_registers_for_the_repositories_that_it_was_granted(region: ForeignRegion) -> None:
    own = next(iter(region.xds.directory.members.values())).repository_unique_id
    for principal, repository in (
        (SECOND, OTHER),
        (SECOND, own),
        (system("reader", Grants(capabilities=frozenset({"find", "open"}))), REPOSITORY),
        (system("before", BEFORE_GRANTS), own),
    ):
        region.xds.principal = principal
        with pytest.raises(Forbidden, match=f"--publishes {repository}|--publishes REPOSITORY"):
            await region.register(manifest("planted", repository=repository))
    region.xds.principal = system("before", BEFORE_GRANTS)
    await region.register(manifest("as before the grants", repository=OTHER))
    region.xds.principal = OPEN
    assert await region.statuses() == {"as before the grants": "Approved"}


async def test_no_document_of_a_submission_is_of_a_repository_that_was_not_granted(
    region: ForeignRegion,
) -> None:
    region.xds.principal = SECOND
    first, hidden = manifest("first"), manifest("hidden", repository=OTHER)
    link = hidden.link.__class__(
        entry_uuid=hidden.link.entry_uuid,
        type=hidden.link.type,
        source=first.submission.entry_uuid,
        target=hidden.entry.entry_uuid,
        submission_set_status="Original",
    )
    with pytest.raises(Forbidden, match=f"--publishes {OTHER}"):
        await region.xds.register([*first.objects, hidden.entry, link])
    assert await region.statuses() == {}


async def test_what_was_registered_before_owners_were_kept_is_whoevers_who_may_register(
    region: ForeignRegion,
) -> None:
    region.xds.principal = FIRST
    old = manifest("old")
    await region.register(old)
    await region.xds.db.write("forget", lambda tx: tx.execute("DELETE FROM entry_owner"))
    region.xds.principal = SECOND
    await region.update(old, "Deprecated")
    region.xds.principal = publishing("third", OTHER)
    with pytest.raises(Forbidden):
        await region.remove(old)
