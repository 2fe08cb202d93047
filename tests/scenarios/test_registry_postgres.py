"""A registry in PostgreSQL: joined, published on both roads, searched, killed and restarted, restored from
its backup.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from scenario_hand import Hand, decide_beside_it, save, slices
from scenario_processes import until

from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
ROADS = {"RTK": "grpc", "RXC": "soap"}
ROOT = "1.2.826.0.1.3680043.10.92"
PATIENT = nhs_number(9201)


def empty_database(dsn: str) -> None:
    """Make it, or make it anew."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS byhand WITH (FORCE)")
        connection.execute("CREATE DATABASE byhand")


@pytest.fixture
def region(tmp_path: Path, postgres_dsn: str) -> Iterator[Hand]:
    """A registry and a node on each road."""
    empty_database(postgres_dsn)
    url = postgres_dsn.replace("/postgres?", "/byhand?")
    hand = Hand(tmp_path, ROADS)
    try:
        hand.make_registry(url=url, audit_url=url)
        hand.serve("registry")
        yield hand
    finally:
        hand.close()
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute("DROP DATABASE byhand WITH (FORCE)")


async def test_both_roads_lead_into_postgresql(region: Hand, postgres_dsn: str) -> None:
    await region.up("registry")
    expected = {}
    for number, code in enumerate(ROADS, 1):
        region.make_node(code)
        region.serve(code)
        study = f"{ROOT}.{number}"
        region.command(
            code,
            "import",
            str(save(region.folder / code / "in", slices(study, 3, local=code, national=PATIENT))),
        )
        expected[study] = 3
    await region.up(*ROADS)
    await until("all is listed", lambda: region.holds(expected), 60)
    assert set((await region.told().by_number(PATIENT)).study_uids) == set(expected)
    assert {e.study_uid for e in (await region.told().find_documents(PATIENT)).entries} == set(expected)
    async with region.told().dicomweb() as client:
        rows, _ = await client.search("studies", PatientID=PATIENT)
        assert {r["0020000D"]["Value"][0] for r in rows} == set(expected)
        for study in expected:
            assert len([data async for data in client.instances(f"studies/{study}")]) == 3
    assert "dr-hand" in region.command("registry", "audit", "--patient", PATIENT).output
    assert not list(region.folders["registry"].glob("*.db")), "nothing of it in SQLite"

    await decide_beside_it(region, f"{ROOT}.60", nhs_number(9260), nhs_number(9261))

    # killed and started: nothing is lost
    region.running["registry"].process.kill()
    region.running.pop("registry").process.wait()
    region.serve("registry")
    await region.up("registry", *ROADS)
    assert await region.holds(expected)
    region.command("registry", "doctor")

    # the database is lost; the backup is a study behind
    region.command("registry", "backup", str(region.folder / "backup"))
    study = f"{ROOT}.9"
    region.command(
        "RTK", "import", str(save(region.folder / "later", slices(study, 2, local="RTK", national=PATIENT)))
    )
    expected[study] = 2
    await until("it is listed", lambda: region.holds(expected), 60)
    region.stop("registry")
    empty_database(postgres_dsn)
    region.folders["registry"] = region.folder / "registry-restored"
    region.command("registry", "restore", str(region.folder / "backup"))
    region.serve("registry")
    await region.up("registry", *ROADS)
    await until("the restored registry has all", lambda: region.holds(expected), 60)
