"""A trust with a patient authority of its own: agreed at joining, or later by the operator; and discs from
elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from scenario_hand import HOST, NAMES, Hand, save, slices
from scenario_processes import until

from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
ROOT, OWN, OLD, ELSEWHERE = (
    "1.2.826.0.1.3680043.10.91",
    "2.16.840.1.113883.2.1.3.2.4.18.24",
    "1.2.3.77",
    "1.2.3.99",
)


def issued(datasets: list[Dataset], oid: str = "", name: str = "") -> list[Dataset]:
    """Say who issued the Patient ID."""
    for ds in datasets:
        if name:
            ds.IssuerOfPatientID = name
        if oid:
            qualifier = Dataset()
            qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = oid, "ISO"
            ds.IssuerOfPatientIDQualifiersSequence = Sequence([qualifier])
    return datasets


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    """RTK says its authority at joining, with the invitation's word for it; RXC asks without."""
    hand = Hand(tmp_path_factory.mktemp("own"), {"RTK": "grpc", "RXC": "soap"})
    try:
        hand.make_registry()
        hand.serve("registry")
        hand.told()
        asyncio.run(hand.up("registry"))
        for code, at_invitation in (("RTK", ("--authority", OWN)), ("RXC", ())):
            assert hand.family.run("node", "init", str(hand.folders[code])).status == 0
            hand.edit_node(code)
            done = hand.command(
                "registry", "invite", code, "--name", NAMES[code], "--host", HOST, *at_invitation
            )
            joined = hand.command(
                code,
                "join",
                done.output.strip().splitlines()[-1],
                "--authority",
                OLD if code == "RXC" else OWN,
            )
            assert (
                "Patient authority of your own" if code == "RTK" else "Not agreed yet"
            ) in joined.output, joined.output
            hand.serve(code)
        asyncio.run(hand.up("RTK", "RXC"))
        yield hand
    finally:
        hand.close()


async def test_studies_under_the_trusts_own_authority_are_published(region: Hand, tmp_path: Path) -> None:
    number = nhs_number(9101)
    pile = issued(slices(f"{ROOT}.1", 2, local="H1", national=number), OWN) + slices(
        f"{ROOT}.2", 1, local="H1", national=number
    )
    save(tmp_path, pile)
    dry = region.command("RTK", "import", "--dry-run", str(tmp_path)).output
    assert "3 objects of 2 studies" in dry
    assert "National numbers in 100 %" in dry
    region.command("RTK", "import", str(tmp_path))
    await until("listed", lambda: region.holds({f"{ROOT}.1": 2, f"{ROOT}.2": 1}), 40)
    async with region.told().fhir("integrator") as client:
        answer = await client.search("Patient", identifier=f"urn:oid:{OWN}|H1")
    assert len(answer.matches) == 1, "with and without the issuer's name it is one patient"


async def test_a_disc_from_elsewhere_is_a_record_of_its_own(region: Hand, tmp_path: Path) -> None:
    """One number, two discs, a trust's own patient with that number: three patients; the original number
    finds the two.
    """
    pile = [
        ds
        for n in (3, 4)
        for ds in issued(slices(f"{ROOT}.{n}", 1, local="H9", national=nhs_number(9102 + n)), ELSEWHERE)
    ]
    pile += slices(f"{ROOT}.5", 1, local="H9", national=nhs_number(9105 + 5))
    save(tmp_path, pile)
    dry = region.command("RTK", "import", "--dry-run", str(tmp_path)).output
    assert "1 of this trust, 2 of other organisations" in dry
    assert f"issued by '{ELSEWHERE}': 2 studies" in dry
    region.command("RTK", "import", str(tmp_path))
    await until("listed", lambda: region.holds({f"{ROOT}.{n}": 1 for n in (3, 4, 5)}), 40)
    async with region.told().fhir("integrator") as client:
        assert len((await client.search("Patient", identifier=f"urn:oid:{ELSEWHERE}|H9")).matches) == 2
        assert len((await client.search("Patient", identifier=f"urn:oid:{OWN}|H9")).matches) == 1


async def test_a_trust_that_waits_publishes_once_the_operator_agrees(region: Hand, tmp_path: Path) -> None:
    study = f"{ROOT}.6"
    save(tmp_path, issued(slices(study, 1, local="X6", national=nhs_number(9110)), OLD))
    region.command("RXC", "import", str(tmp_path))
    status = region.command("RXC", "status").output
    assert f"crosslight-registry authority RXC {OLD} --agree" in " ".join(status.split()), status
    assert OLD in region.command("registry", "members").output
    assert await region.holds({study: 0})
    region.command("registry", "authority", "RXC", OLD, "--agree")
    await until("listed", lambda: region.holds({study: 1}), 60)
    async with region.told().fhir("integrator") as client:
        assert len((await client.search("Patient", identifier=f"urn:oid:{OLD}|X6")).matches) == 1
    done = region.command("registry", "authority", "RTK", OLD, "--agree", status=1)
    assert "RXC already" in done.output
    assert "--shared" in done.output


async def test_a_rule_set_right_is_applied_after_the_restart(region: Hand, tmp_path: Path) -> None:
    study = f"{ROOT}.7"
    save(tmp_path, issued(slices(study, 1, local="P7", national=nhs_number(9111)), name="PASX"))
    region.command("RTK", "import", str(tmp_path))
    await until("listed", lambda: region.holds({study: 1}), 40)
    async with region.told().fhir("integrator") as client:
        assert not (await client.search("Patient", identifier=f"urn:oid:{OWN}|P7")).matches
    config = region.folders["RTK"] / "node.toml"
    text, count = re.subn(r"(?m)^# issuers = .*$", f'issuers = {{ PASX = "{OWN}" }}', config.read_text())
    assert count == 1
    config.write_text(text)
    dry = region.command("RTK", "reread", "--all", "--dry-run").output
    assert "1 would be published anew" in dry, dry
    region.command("RTK", "reread", status=2)
    region.stop("RTK")
    region.serve("RTK")
    await region.up("RTK")

    async def moved() -> bool:
        async with region.told().fhir("integrator") as client:
            return len((await client.search("Patient", identifier=f"urn:oid:{OWN}|P7")).matches) == 1

    await until("it is the trust's own patient now", moved, 60)
    assert await region.holds({study: 1})
    again = region.command("RTK", "reread", "--all", "--dry-run").output
    assert "0 would be published anew" in again, again
