"""A members' database of an earlier release, upgraded: whoever worked goes on working (ADR 0036)."""

from __future__ import annotations

from members_region import CLOCK, REGION

from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.access import Principal, decide
from registry.members.credential_store import CredentialStore
from registry.members.store import SCHEMA, MemberStore

HOME = REGION.home_community_id
BEFORE_GRANTS = SchemaVersion("members", schema=3, compat=1)
#: Certificates of a release before 0.3: serial, path of the identity, member, issued, expires.
OLD = [
    ("a1", "system/pacs", None, "2026-01-01T00:00:00+00:00", "2026-06-01T00:00:00+00:00"),
    ("a2", "system/pacs", None, "2026-05-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"),
    ("b1", "system/ris", None, "2026-03-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"),
    ("c1", "member/RTK", 1, "2026-02-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"),
    ("d1", "gateway", None, "2026-02-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"),
]


async def test_outside_systems_of_before_keep_what_their_role_gave(database: Db) -> None:
    assert await migrate(database, "registry.members", BEFORE_GRANTS) == [1, 2, 3]

    def lay(tx: Tx) -> None:
        tx.execute(
            "INSERT INTO member VALUES (1, 'RTK Trust', '1.2.1', '1.2.2', '1.2.3', 'ab', 4, 's', 'active',"
            " '2026-01-01T00:00:00+00:00', '', '[]', '{}')"
        )
        tx.execute("INSERT INTO member_code VALUES ('RTK', '2026-01-01T00:00:00+00:00', NULL, 1)")
        tx.execute("UPDATE membership_counter SET value = 7 WHERE name = 'version'")
        for serial, path, member, issued, expires in OLD:
            row = (serial, f"spiffe://{HOME}/{path}", member, issued, expires)
            tx.execute("INSERT INTO certificate VALUES (?, ?, ?, ?, ?)", row)

    await database.write("lay", lay)
    assert await migrate(database, "registry.members", SCHEMA) == list(range(4, SCHEMA.schema + 1))
    systems = (await CredentialStore(database, CLOCK, HOME).facts()).systems
    assert {name: (s.since.month, s.upgrade) for name, s in systems.items()} == {
        "pacs": (1, True),
        "ris": (3, True),
    }, "each once, since its first certificate; members and the gateway have none"
    grants = systems["pacs"].grants
    assert grants.publishes("1.2.3.4")
    assert "link" not in grants.capabilities, "what came with 0.3 nobody was granted"
    who = Principal(subject="system:pacs", roles=frozenset({"integrator"}), grants=grants)
    for face, action in (("xds", "search"), ("iti43", "retrieve"), ("xds", "publish")):
        assert decide(who, face, action).permit, (face, action)  # type: ignore[arg-type]  # both are literals
    version, rows = await MemberStore(database, CLOCK, HOME, REGION).load()
    assert version == 8, "every process and node hears of it"
    assert [(row.member.code, row.member.epoch, row.member.status) for row in rows] == [("RTK", 4, "active")]
    again = (await CredentialStore(database, CLOCK, HOME).facts()).systems
    assert await migrate(database, "registry.members", SCHEMA) == []
    assert again == systems
