"""A region made by hand, command by command, as docs/operations.md tells two people to; each side a process
of its own.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import dicom_objects as make
from ports import free_base
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from scenario_demo import Told
from scenario_processes import Family, Finished, Running, until

from crosslight.standards.ids import NHS_NUMBER_OID, NHS_NUMBER_SYSTEM

HOST = "127.0.0.1"
NAMES = {"RTK": "Ashford and St Peter's Hospitals", "RXC": "East Sussex Healthcare", "RA2": "Royal Surrey"}


def set_keys(path: Path, section: str, **values: object) -> None:
    """Edit a configuration file as a person does: find the key in its section, put the value there."""
    text = path.read_text()
    start = text.index(f"\n[{section}]\n")
    following = re.search(r"\n(\[|# \[\[)", text[start + 2 :])
    end = start + 2 + following.start() if following else len(text)
    part = text[start:end]
    for key, value in values.items():
        said = "true" if value is True else str(value) if isinstance(value, int) else f'"{value}"'
        part, count = re.subn(rf"(?m)^(?:# )?{key} = .*$", f"{key} = {said}", part)
        assert count == 1, f"{path.name} has no {section}.{key}"
    path.write_text(text[:start] + part + text[end:])


def slices(study: str, count: int, *, local: str, national: str, first: int = 1) -> list[Dataset]:
    """Small CT slices of one series, of a patient with a number of the trust's own and a national one."""
    found = []
    for number in range(first, first + count):
        issuer, other = Dataset(), Dataset()
        issuer.UniversalEntityID, issuer.UniversalEntityIDType = NHS_NUMBER_OID, "ISO"
        other.PatientID, other.TypeOfPatientID = national, "TEXT"
        other.IssuerOfPatientIDQualifiersSequence = DicomSequence([issuer])
        ds = make.image(number, study=study, PatientID=local, AccessionNumber=f"A{study[-6:]}")
        ds.OtherPatientIDsSequence = DicomSequence([other])
        found.append(ds)
    return found


def save(folder: Path, datasets: Sequence[Dataset]) -> Path:
    """Write a pile of Part 10 files."""
    folder.mkdir(parents=True, exist_ok=True)
    for ds in datasets:
        (folder / f"{ds.SOPInstanceUID}.dcm").write_bytes(make.part10(ds))
    return folder


class OnDemand(dict[str, str]):
    """Tokens by role, each asked for when it is first wanted."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, role: str) -> str:
        self[role] = self._ask(role)
        return self[role]


@dataclass
class Hand:
    """What two people have made. Folders may be replaced: a restored side lies in a new one."""

    folder: Path
    roads: dict[str, str]  # organisation code -> grpc or soap
    family: Family = field(default_factory=Family)
    base: int = 0
    folders: dict[str, Path] = field(default_factory=dict)  # "registry" or code -> its folder
    running: dict[str, Running] = field(default_factory=dict)
    _told: Told | None = None

    def __post_init__(self) -> None:
        self.base = free_base(len(self.roads) + 1)
        self.folders = {name: self.folder / name for name in ("registry", *self.roads)}

    # --- commands -------------------------------------------------------------------------------------------

    def command(self, name: str, *arguments: str, status: int | None = 0) -> Finished:
        """``crosslight-registry`` or ``crosslight-node`` on a side's folder; ``status`` None accepts any."""
        module = "registry" if name == "registry" else "node"
        done = self.family.run(module, "--dir", str(self.folders[name]), *arguments)
        assert status is None or done.status == status, (
            f"{module} {' '.join(arguments)}: {done.status}\n{done.output}"
        )
        return done

    def make_registry(self, **database: str) -> None:
        """``init`` and the editor."""
        assert self.family.run("registry", "init", str(self.folders["registry"])).status == 0
        path = self.folders["registry"] / "registry.toml"
        ports = {
            "people_port": self.base,
            "grpc_port": self.base + 1,
            "mllp_port": self.base + 2,
            "systems_port": self.base + 3,
        }
        set_keys(path, "region", name="A region by hand", allow_test_numbers=True)
        set_keys(path, "listen", host=HOST, public_host=HOST, **ports)
        set_keys(path, "members", loopback=True)
        if database:
            set_keys(path, "database", **database)

    def make_node(self, code: str) -> None:
        """``init``, the editor, an invitation, ``join``."""
        assert self.family.run("node", "init", str(self.folders[code])).status == 0
        self.edit_node(code)
        self.command(code, "join", self.invite(code))

    def edit_node(self, code: str) -> None:
        """The editor."""
        base, path = self.node_base(code), self.folders[code] / "node.toml"
        set_keys(path, "listen", host=HOST, public_host=HOST, people_port=base, systems_port=base + 3)
        set_keys(path, "dimse", host=HOST, port=base + 2)
        set_keys(path, "publish", road=self.roads[code], quiet_s=1)
        with path.open("a") as more:
            more.write(f'\n[[dimse.callers]]\nae_title = "PACS1"\naddresses = ["{HOST}"]\n')

    def invite(self, code: str) -> str:
        """An invitation, as it is printed."""
        done = self.command("registry", "invite", code, "--name", NAMES[code], "--host", HOST)
        return done.output.strip().splitlines()[-1]

    def serve(self, name: str) -> None:
        """Start a side."""
        module = "registry" if name == "registry" else "node"
        log = self.folder / f"{name}.log"
        self.running[name] = self.family.start(log, module, "--dir", str(self.folders[name]), "serve")

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a side; its status."""
        return self.running.pop(name).stop(number)

    def close(self) -> None:
        """End everything."""
        for name in list(self.running):
            try:
                self.stop(name)
            except Exception:
                continue
        self.family.end()

    # --- asking ---------------------------------------------------------------------------------------------

    def node_base(self, code: str) -> int:
        """A node's first port."""
        return self.base + 10 * (1 + list(self.roads).index(code))

    def url(self, name: str) -> str:
        """A side's people listener."""
        return f"https://{HOST}:{self.base if name == 'registry' else self.node_base(name)}"

    def token(self, *more: str) -> str:
        """What ``crosslight-registry token`` prints for a role, which comes last."""
        *audience, role = more
        user, of = ("app", "") if role == "integrator" else ("dr-hand", next(iter(self.roads)))
        may = ("--may", "find,open") if role == "integrator" else ()
        asked = ("token", "--role", role, "--user", user, "--organisation", of, *may, *audience)
        return self.command("registry", *asked).output.strip().splitlines()[-1]

    def told(self) -> Told:
        """Addresses and credentials, as an operator hands them out."""
        if self._told is None:
            client = self.folder / "client"
            self.command("registry", "system", "consumer", str(client), "--may", "find,open")
            base, systems = self.url("registry"), f"https://{HOST}:{self.base + 3}"
            national = {"system": NHS_NUMBER_SYSTEM, "oid": NHS_NUMBER_OID, "value": ""}
            self._told = Told(
                {
                    "registry": {
                        "base": base,
                        "fhir": f"{base}/fhir",
                        "dicomweb": f"{base}/dicomweb",
                        "xds_registry": f"{systems}/xds/registry",
                    },
                    "nodes": [
                        {
                            "code": c,
                            "base": self.url(c),
                            "dicomweb": f"{self.url(c)}/dicomweb",
                            "tokens": OnDemand(partial(self.token, "--for", c)),
                        }
                        for c in self.roads
                    ],
                    "tls": {
                        "ca": client / "ca.pem",
                        "client_cert": client / "consumer.pem",
                        "client_key": client / "consumer.key",
                    },
                    "tokens": OnDemand(self.token),
                    "patients": [{"identifiers": [national], "disputed": False, "studies": []}],
                    "affinity_domain": {"patient_authority": NHS_NUMBER_OID},
                    "open": False,
                }
            )
        return self._told

    async def up(self, *names: str, within_s: float = 60.0) -> None:
        """Wait until sides are ready, and members live."""
        told = self.told()
        for name in names:

            async def ready(name: str = name) -> bool:
                running = self.running[name]
                assert running.alive, running.output[-3000:]
                return (await told.http("GET", f"{self.url(name)}/health/ready")).status == 200

            await until(f"{name} is ready", ready, within_s)

        async def live() -> bool:
            async with told.fhir("integrator") as client:
                warnings = (await client.search("Organization")).warnings
            return not [w for w in warnings if any(f"({n})" in w and "unreachable" in w for n in names)]

        await until("members are live", live, within_s)

    async def holds(self, studies: dict[str, int]) -> bool:
        """Whether the region lists just these instances of these studies; 0: not listed."""
        for uid, count in studies.items():
            matches = (await self.told().study(uid)).matches
            found = sum(m["numberOfInstances"] for m in matches)
            assert found == count, f"{uid}: {found} of {count}"
            assert len(matches) <= 1, f"{uid} is listed {len(matches)} times"
            assert not matches or matches[0]["status"] == "available", f"{uid} is {matches[0]['status']}"
        return True

    async def counted(self) -> bool:
        """Whether an empty answer is proof: every member's list was counted, at both ends alike, and nothing
        waits.
        """
        async with self.told().fhir("integrator") as client:
            answer = await client.search(
                "ImagingStudy", patient_dot_identifier=f"{NHS_NUMBER_SYSTEM}|9990000018"
            )
        return any("every list is current and counted" in str(i) for i in answer.issues)


async def decide_beside_it(region: Hand, root: str, first: str, second: str) -> None:
    """One local id of RTK for two people: decided by the command while the registry serves, and taken
    back."""
    for study, national in ((f"{root}.1", first), (f"{root}.2", second)):
        pile = slices(study, 1, local="AGAIN", national=national)
        for ds in pile if national == second else ():
            ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "Other^Olaf", "19330303", "M"
        region.command("RTK", "import", str(save(region.folder / study, pile)))

    def doubt() -> str:
        found = re.search(
            r"([0-9A-Z]{4}-[0-9A-Z]{4})\s+in doubt", region.command("registry", "identity", "list").output
        )
        return found[1] if found else ""

    async def waits() -> bool:
        return bool(await asyncio.to_thread(doubt))

    async def shown() -> list[str]:
        """To a system of another organisation."""
        return [entry.study_uid for entry in (await region.told().find_documents(second)).entries]

    await until("a study is in doubt", waits, 60)
    case = doubt()
    assert await shown() == []
    assert "OTHER, Olaf" in region.command("registry", "identity", "show", case).output
    done = region.command("registry", "identity", "decide", case, "--another", "--reason", "two people")
    assert doubt() == ""
    assert await shown() == [f"{root}.2"], "it holds at once, in the serving registry"
    made = re.search(r"identity end ([0-9a-f]{8})", done.output)
    assert made, done.output
    region.command("registry", "identity", "end", made[1], "--reason", "only tried")
    assert doubt() == case
    assert await shown() == []
    audit = region.command("registry", "audit", "--patient", second, "--action", "decide", "--json").output
    assert re.search(r'"verdict":\s*"another"', audit), audit
