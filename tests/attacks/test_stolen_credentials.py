"""What a stolen certificate changes, and what an ended one, or an ended token, still opens: nothing.

Over real TLS: a registry, two members and outside systems in one process (ADR 0036; findings H3, L3).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress

import pytest
import pytest_asyncio
from foreign_region import manifest
from granted_region import CX, ELSES, OTHER_NUMBER, OURS, STUDY, Attacked, documents, granted_region
from road_studies import NUMBER
from whole_region import ROOT, until

from crosslight.standards.ids import NHS_NUMBER_OID
from crosslight.standards.problem import NotFound, PeerError
from crosslight.standards.xds.wire.ebrim_write import render_remove_objects
from registry import commands
from registry.credential_commands import opened_credentials
from registry.ihe import iti42, iti62
from registry.members.systems import asked_grants


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    async with granted_region(tmp_path_factory.mktemp("grants")) as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stolen_certificate_changes_nothing_of_others(attacked: Attacked) -> None:
    """The scripts of the review: identities rewritten, images planted, others' documents removed."""
    rtk, rxc = (attacked.region.homes[code].authority for code in ("RTK", "RXC"))
    theirs = manifest("theirs", study_uid=f"{ROOT}.6", repository=ELSES, cx=CX)
    assert (await attacked.soap("owner", iti42.ACTION_REQUEST, documents(theirs)))[0]
    await attacked.system("stolen", asked_grants(("find", "open"), feeds=(rtk,), publishes=(OURS,)))
    # its own repository is a source that the registry knows
    ours = manifest("ours", study_uid=f"{ROOT}.5", repository=OURS, cx=CX)
    assert (await attacked.soap("stolen", iti42.ACTION_REQUEST, documents(ours)))[0]
    before = await attacked.everything()
    members = attacked.region.registry.members
    next_member = f"{members.root_oid}.10.{max(m.id for m in members.everyone()) + 2}.1"
    planted = [
        manifest("planted", study_uid=STUDY, repository=repository, cx=CX)
        for repository in (
            f"{ROOT}.99.1",
            next_member,
            str(members.active("RTK").repository_unique_id),
            ELSES,
        )
    ]
    national = f"^^^&{NHS_NUMBER_OID}&ISO"
    scripts: list[Awaitable[tuple[bool, str]]] = [
        attacked.hl7("stolen", f"L-1^^^&{rxc}&ISO"),
        attacked.hl7("stolen", f"{NUMBER}{national}"),
        attacked.hl7("stolen", f"{OTHER_NUMBER}{national}", "A40", f"{NUMBER}{national}"),
        attacked.hl7("stolen", f"L-2^^^&{rxc}&ISO", "A40", f"L-1^^^&{rxc}&ISO"),
        attacked.hl7("stolen", f"x^^^&{rtk}&ISO", "A40", f"L-1^^^&{rxc}&ISO"),
        *(attacked.soap("stolen", iti42.ACTION_REQUEST, documents(one)) for one in planted),
        attacked.soap(
            "stolen",
            iti42.ACTION_REQUEST,
            documents(manifest("newer", study_uid=f"{ROOT}.6", repository=OURS, cx=CX, replaces=theirs)),
        ),
        attacked.soap("stolen", iti62.ACTION_REQUEST, render_remove_objects(theirs.uuids)),
    ]
    for script in scripts:
        try:
            done, text = await script
        except PeerError as error:
            done, text = False, str(error)
        assert not done, text
        assert text
    for code in ("RTK", "RXC"):
        assert (await attacked.stow("stolen", code))[0] == 403
    assert await attacked.everything() == before, "nothing changed"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_ended_opens_nothing_anywhere(attacked: Attacked) -> None:
    """A certificate, a system, a token: at the registry's listeners, and at a node by its directory alone."""
    folder, reads = attacked.region.registry.folder, asked_grants(("find", "open"))
    await attacked.system("leaver", reads)
    tokens = {
        code: await commands.issue_token(folder, role="integrator", user="app-9", member=code, grants=reads)
        for code in ("", "RTK")
    }
    search = f"/dicomweb/studies?StudyInstanceUID={STUDY}"

    async def statuses() -> list[int]:
        at, found = attacked.region.homes["RTK"].app.endpoints, []
        for name, url, token in (
            ("leaver", f"{attacked.systems}{search}", ""),
            ("leaver", f"{at.systems}{search}", ""),
            ("", f"{attacked.region.base}{search}", tokens[""]),
            ("", f"{at.base}{search}", tokens["RTK"]),
        ):
            headers = {"Authorization": f"Bearer {token}"} if token else None
            found.append((await attacked.http(name, "GET", url, headers=headers))[0])
        return found

    assert await statuses() == [200, 200, 200, 200]
    async with opened_credentials(folder) as issued:
        assert {one.kind for one in await issued.end_user("app-9")} == {"token"}
        ended = await issued.end("system", "leaver")
        assert (ended.whom, ended.may) == ("system:leaver", "find; open")
        for kind, named in (("token", "0" * 32), ("session", "nobody"), ("system", "leaver")):
            with pytest.raises(NotFound):
                await issued.end(kind, named)  # type: ignore[arg-type]  # each is one of the kinds
        listed = {(one.kind, one.whom): one.withdrawn for one in await issued.all()}
        assert listed["token", "token:app-9"]
        assert listed["certificate", "system:leaver"]

    async def refused() -> bool:
        return await statuses() == [401, 401, 401, 401]

    await until(refused)
    with suppress(PeerError):  # it has no connection, or no word
        assert not (await attacked.hl7("leaver", "x^^^&1.2&ISO"))[0]
    await commands.system(folder, "leaver", folder.parent / "again", reads)  # a new certificate, granted anew

    async def back() -> bool:
        return "leaver" in attacked.region.registry.members.issued.systems

    await until(back)
    assert (await statuses())[:2] == [401, 401], "the old certificate stays withdrawn"
    acts = await attacked.region.registry.parts.ground.audit.search()
    ended_kinds = {act.query["kind"] for act in acts if act.action == "end-credential"}
    assert ended_kinds == {"token", "system"}
