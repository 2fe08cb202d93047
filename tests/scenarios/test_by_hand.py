"""Both sides by hand, as docs/operations.md says: init, invite, join, serve, import, look, delete, audit,
doctor.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_objects import part10
from scenario_hand import NAMES, Hand, decide_beside_it, save, set_keys, slices
from scenario_processes import Family, until

from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
ROOT = "1.2.826.0.1.3680043.10.90"
PATIENT = nhs_number(9001)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    """A registry and a node on each road; they serve."""
    hand = Hand(tmp_path_factory.mktemp("hand"), {"RTK": "grpc", "RXC": "soap", "RA2": "grpc"})
    try:
        hand.make_registry()
        hand.serve("registry")
        hand.told()
        asyncio.run(hand.up("registry"))
        for code in ("RTK", "RXC"):
            hand.make_node(code)
            hand.serve(code)
        asyncio.run(hand.up("RTK", "RXC"))
        yield hand
    finally:
        hand.close()


def test_init_explains_and_refuses_a_second_time(tmp_path: Path) -> None:
    family = Family()
    for module, file in (("registry", "registry.toml"), ("node", "node.toml")):
        folder = tmp_path / module
        done = family.run(module, "init", str(folder), "--systemd")
        assert done.status == 0, done.output
        assert "Next: crosslight-" in done.output
        text = (folder / file).read_text()
        assert tomllib.loads(text) is not None
        assert text.count("\n# ") > 40, "every key is explained"
        unit = (folder / f"crosslight-{module}.service").read_text()
        assert f"-m {module} --dir {folder} serve" in unit
        assert folder.stat().st_mode & 0o077 == 0, "patients' data will be here"
        again = family.run(module, "init", str(folder))
        assert again.status == 1
        assert "already" in again.output
        assert (folder / file).read_text() == text


@pytest.mark.parametrize(("module", "file"), [("registry", "registry.toml"), ("node", "node.toml")])
def test_unknown_keys_and_wrong_values_are_refused_with_their_path(
    tmp_path: Path, module: str, file: str
) -> None:
    family, folder = Family(), tmp_path / "s"
    assert family.run(module, "init", str(folder)).status == 0
    good = (folder / file).read_text()
    for section, line, path in (
        ("listen", 'colour = "red"', "listen.colour"),
        ("listen", "people_port = 70000", "listen.people_port"),
        ("log", 'level = "loud"', "log.level"),
    ):
        (folder / file).write_text(good.replace(f"\n[{section}]\n", f"\n[{section}]\n{line}\n", 1))
        done = family.run(module, "--dir", str(folder), "serve", within_s=30)
        assert done.status == 1
        assert path in done.output, done.output


def test_an_open_side_listens_on_loopback_only(tmp_path: Path) -> None:
    family = Family()
    for module, file in (("registry", "registry.toml"), ("node", "node.toml")):
        folder = tmp_path / module
        assert family.run(module, "init", str(folder)).status == 0
        set_keys(folder / file, "listen", open=True)
        done = family.run(module, "--dir", str(folder), "serve", within_s=30)
        assert done.status == 1
        assert "loopback only" in done.output


def test_a_folder_is_served_once(region: Hand) -> None:
    for name in ("registry", "RTK"):
        done = region.command(name, "serve", status=1)
        assert "Another process serves" in done.output
        assert "Traceback" not in done.output
        assert region.running[name].alive


async def test_a_pile_of_files_is_imported_and_found(region: Hand, tmp_path: Path) -> None:
    for number, code in enumerate(("RTK", "RXC"), 1):
        study = f"{ROOT}.{number}"
        pile = save(tmp_path / code / "deep" / "er", slices(study, 3, local=f"L{number}", national=PATIENT))
        (tmp_path / code / "readme.txt").write_text("no image")
        (tmp_path / code / "IMG").write_bytes(
            part10(slices(study, 1, local=f"L{number}", national=PATIENT, first=9)[0])
        )
        done = region.command(code, "import", str(tmp_path / code))
        assert "4 stored, 0 were here already" in done.output
        assert "readme.txt: no DICOM" in done.output
        again = region.command(code, "import", str(pile), str(tmp_path / code / "IMG"))
        assert "0 stored" in again.output
        await until(f"{code}'s is found", lambda study=study: region.holds({study: 4}), 40)  # type: ignore[misc]
        status = region.command(code, "status").output
        for word in (f"{code} {NAMES[code]}", "1 study, 1 series, 4 instances", "Waiting for the registry"):
            assert word in status, status
        assert "4 objects checked, 0 missing, 0 damaged" in region.command(code, "verify").output
    answer = await region.told().by_number(PATIENT)
    assert set(answer.study_uids) == {f"{ROOT}.1", f"{ROOT}.2"}
    documents = await region.told().find_documents(PATIENT)
    assert sorted(e.study_uid for e in documents.entries) == [f"{ROOT}.1", f"{ROOT}.2"]
    await until("every list is counted", region.counted, 40)
    shown = region.command("registry", "members").output
    assert all(name in shown for name in ("RTK", "RXC", NAMES["RXC"]))


async def test_an_identity_is_decided_beside_the_serving_registry(region: Hand) -> None:
    await decide_beside_it(region, f"{ROOT}.60", nhs_number(9060), nhs_number(9061))


async def test_a_damaged_object_is_told_by_verify(region: Hand, tmp_path: Path) -> None:
    study = f"{ROOT}.7"
    region.command(
        "RTK", "import", str(save(tmp_path, slices(study, 1, local="L7", national=nhs_number(9007))))
    )
    newest = max(
        (p for p in (region.folders["RTK"] / "archive").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_mtime_ns,
    )
    whole = newest.read_bytes()
    newest.chmod(0o600)
    newest.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = region.command("RTK", "verify", status=1)
    assert "1 damaged" in done.output
    assert f"{study}.1.1" in done.output
    assert not newest.exists(), "it is set apart, and given to nobody"
    newest.write_bytes(whole)
    region.command("RTK", "verify")
    newest.unlink()
    done = region.command("RTK", "verify", status=1)
    assert "1 missing" in done.output
    newest.write_bytes(whole)
    region.command("RTK", "verify")


async def test_delete_and_undelete(region: Hand, tmp_path: Path) -> None:
    for number, code in ((3, "RTK"), (4, "RXC")):
        study = f"{ROOT}.{number}"
        region.command(
            code, "import", str(save(tmp_path / code, slices(study, 2, local=f"L{number}", national=PATIENT)))
        )
        await until("listed", lambda study=study: region.holds({study: 2}), 40)  # type: ignore[misc]
        assert (
            "2 instances are in the bin"
            in region.command(code, "delete", study, "--reason", "wrong patient").output
        )
        await until("not listed", lambda study=study: region.holds({study: 0}), 40)  # type: ignore[misc]
        opened = await region.told().http(
            "GET",
            f"{region.url(code)}/dicomweb/studies/{study}/metadata",
            token=region.told().token("integrator", code),
        )
        assert opened.status in (404, 410)
        assert "wrong patient" in region.command(code, "status").output
        assert "2 instances are back" in region.command(code, "undelete", study).output
        await until("listed again", lambda study=study: region.holds({study: 2}), 40)  # type: ignore[misc]
        region.command(code, "delete", study, status=2)  # a reason is needed
        region.command(code, "delete", f"{ROOT}.99", "--reason", "x", status=1)
        region.command(code, "delete", study, "--reason", "made for a test")
        await until("not listed", lambda study=study: region.holds({study: 0}), 40)  # type: ignore[misc]


async def test_the_audit_tells_who_opened_what_on_both_sides(region: Hand, tmp_path: Path) -> None:
    study, number = f"{ROOT}.5", nhs_number(9005)
    region.command("RXC", "import", str(save(tmp_path, slices(study, 2, local="L5", national=number))))
    await until("listed", lambda: region.holds({study: 2}), 40)
    async with region.told().dicomweb() as client:
        assert len([data async for data in client.instances(f"studies/{study}")]) == 2
    lines = {}
    for name in ("registry", "RXC"):

        async def told(name: str = name) -> list[dict[str, object]]:
            raw = region.command(
                name, "audit", "--patient", f"2.16.840.1.113883.2.1.4.1|{number}", "--json"
            ).output
            acts = [json.loads(line) for line in raw.splitlines() if line.startswith("{")]
            return [a for a in acts if a["action"] == "retrieve" and str(a["outcome"]).startswith("ok ")]

        lines[name], _ = await until("the outcome is kept", told, 10)
    for name, acts in lines.items():
        assert study in str(acts), name
        assert "dr-hand" in str(acts), name
    shown = region.command("RXC", "audit", "--patient", number).output
    assert "dr-hand" in shown, shown
    assert "retrieve" in shown
    correlations = {name: {str(a["correlation"]) for a in acts} for name, acts in lines.items()}
    assert correlations["registry"] & correlations["RXC"], (
        "one act, found on both sides by its correlation id"
    )
    assert "0 acts" in region.command("RXC", "audit", "--patient", "9990000018").output


async def test_doctor(region: Hand) -> None:
    for name in ("registry", "RTK", "RXC"):
        done = region.command(name, "doctor")
        assert "✗" not in done.output
        assert "Live and ready." in done.output
    region.stop("RTK")
    done = region.command("RTK", "doctor", status=1)
    failed = [
        line for line in done.output.splitlines() if line.startswith("✗") or " ✗ " in line or "│✗" in line
    ]
    assert failed, done.output
    assert any("service runs" in line for line in done.output.splitlines()), "it says what to do"
    assert "Traceback" not in done.output
    region.serve("RTK")
    await region.up("RTK")
    region.command("RTK", "doctor")


def test_an_invitation_is_good_for_one_node(region: Hand, tmp_path: Path) -> None:
    invitation = region.invite("RA2")
    region.family.run("node", "init", str(tmp_path / "first"))
    region.family.run("node", "init", str(tmp_path / "second"))
    done = region.family.run("node", "--dir", str(tmp_path / "first"), "join", invitation)
    assert done.status == 0, done.output
    assert f"Joined A region by hand as RA2 {NAMES['RA2']}" in done.output
    again = region.family.run("node", "--dir", str(tmp_path / "second"), "join", invitation)
    assert again.status == 1
    assert "used" in again.output.lower(), again.output
    assert not (tmp_path / "second" / "region" / "identity.pem").exists()
    for broken in ("", "nonsense", invitation[:-8] + "AAAAAAAA"):
        refused = region.family.run("node", "--dir", str(tmp_path / "second"), "join", broken)
        assert refused.status == 1, refused.output
        assert "Traceback" not in refused.output
