"""A node asks for storage commitment: of Orthanc, which reports on an association of its own, and of another
node, which reports on ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dicom_objects as make
from beside_dimse import put
from click.testing import CliRunner, Result
from dimse_node import associate
from dimse_node import node as other_node
from ports import free_base, free_ports
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import build_role
from pynetdicom.sop_class import StorageCommitmentPushModel

from benchmarks.peers import orthanc
from crosslight.runtime.service_life import Life
from node.__main__ import main
from node.commitment.store import CommitmentStore
from node.dimse.accounts import Accounts
from node.dimse.callers import Callers
from node.dimse.config import KnownCaller
from node.dimse.listener import DimseListener
from node.dimse.on_loop import OnLoop
from node.dimse.services.commitment import ALL_COMMITTED, INVALID_ARGUMENT, PUSH_MODEL_INSTANCE
from node.dimse.services.commitment_reports import CommitmentReports
from node.offline import opened

CONFIG = """
[dimse]
ae_title = "RTK"
host = "127.0.0.1"
port = {port}
[[dimse.callers]]
ae_title = "ORTHANC"
may = []
[[dimse.destinations]]
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {there}
[[dimse.destinations]]
ae_title = "RVJ"
host = "127.0.0.1"
port = {there}
"""


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--dir", str(folder), *arguments], env={"COLUMNS": "200"})


def made(folder: Path, there: int, port: int = 0) -> Path:
    """A node's folder with three instances of a study."""
    (folder / "pile").mkdir(parents=True)
    for number in (1, 2, 3):
        (folder / "pile" / f"{number}.dcm").write_bytes(make.part10(make.image(number)))
    home = folder / "node"
    assert run(home, "init", str(home)).exit_code == 0
    (home / "node.toml").write_text(CONFIG.format(port=port, there=there), "utf-8")
    assert run(home, "import", str(folder / "pile")).exit_code == 0
    return home


@asynccontextmanager
async def listening(home: Path) -> AsyncIterator[None]:
    """The part of the running node that hears reports."""
    async with opened(home) as node, Life() as life:
        config = node.config.dimse
        callers = Callers(config, "RTK")
        service = CommitmentReports(OnLoop(), CommitmentStore(node.db, node.seams.clock))
        accounts = Accounts(node.audit, node.seams.ids, node.archive.patients)
        listener = DimseListener(config, (service,), callers, accounts, node.seams.workers)
        life.stops(listener)
        await listener.start()
        yield


async def test_orthanc_says_of_each_instance_whether_it_keeps_it(tmp_path: Path) -> None:
    http, (port,) = free_base(2), free_ports(1)
    dimse = http + 1
    home = await asyncio.to_thread(made, tmp_path, dimse, port)
    known = {"rtk": {"AET": "RTK", "Host": "127.0.0.1", "Port": port}}
    async with orthanc(tmp_path / "orthanc", http, DicomModalities=known), listening(home):
        await asyncio.to_thread(put, dimse, "ORTHANC", make.image(1), make.image(2))
        done = await asyncio.to_thread(run, home, "commitment", "ask", make.STUDY, "--to", "ORTHANC")
        assert done.exit_code == 1, done.output
        assert "ORTHANC has committed 2 of 3 instances" in done.output
        assert f"{make.STUDY}.1.3: not committed: it has no such instance (0112H)" in done.output
        await asyncio.to_thread(put, dimse, "ORTHANC", make.image(3))
        done = await asyncio.to_thread(run, home, "commitment", "ask", make.STUDY, "--to", "ORTHANC")
        assert done.exit_code == 0, done.output
        assert "ORTHANC has committed 3 of 3 instances" in done.output
    shown = await asyncio.to_thread(run, home, "commitment", "show", make.STUDY)
    assert shown.output.count("ORTHANC has committed") == 2, "both are kept"
    audit = await asyncio.to_thread(run, home, "audit", "--study", make.STUDY, "--action", "commit")
    assert audit.exit_code == 0
    assert "ORTHANC" in audit.output, "who asked, and who reported"


async def test_a_peer_may_report_on_our_own_association(tmp_path: Path) -> None:
    caller = KnownCaller(ae_title="RTK", addresses=("127.0.0.1",))
    async with other_node(tmp_path / "other", code="RVJ", callers=(caller,)) as other:
        for number in (1, 2, 3):
            assert (await other.held.put(make.image(number))).status == 0
        home = await asyncio.to_thread(made, tmp_path / "own", other.service.port)
        done = await asyncio.to_thread(run, home, "commitment", "ask", make.STUDY, "--to", "RVJ")
        assert done.exit_code == 0, done.output
        assert "RVJ has committed 3 of 3 instances" in done.output


async def test_whom_nobody_asked_changes_nothing_and_who_is_away_is_said_to_be(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    home = await asyncio.to_thread(made, tmp_path, port)
    done = await asyncio.to_thread(run, home, "commitment", "ask", make.STUDY, "--to", "RVJ")
    assert done.exit_code == 1
    assert "RVJ cannot be reached" in done.output
    shown = await asyncio.to_thread(run, home, "commitment", "show", make.STUDY)
    assert "RVJ has committed 0 of 3 instances" in shown.output
    assert "no report yet" in shown.output
    nowhere = await asyncio.to_thread(run, home, "commitment", "ask", make.STUDY, "--to", "NOBODY")
    assert "NOBODY is no destination." in nowhere.output


def reported(port: int, transaction_uid: str, *sop_uids: str) -> int:
    """The status of a report by ORTHANC, by pynetdicom, that all of these are committed."""
    said = Dataset()
    said.TransactionUID, said.ReferencedSOPSequence = transaction_uid, []
    for uid in sop_uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = make.CT, uid
        said.ReferencedSOPSequence.append(item)
    contexts = [(str(StorageCommitmentPushModel), [str(ImplicitVRLittleEndian)])]
    role = [build_role(StorageCommitmentPushModel, scp_role=True)]
    assoc = associate(port, contexts, calling="ORTHANC", ext_neg=role)
    status, _ = assoc.send_n_event_report(
        said, ALL_COMMITTED, StorageCommitmentPushModel, PUSH_MODEL_INSTANCE
    )
    assoc.release()
    return int(status.Status)


async def test_only_who_was_asked_reports_and_the_first_report_counts(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    home = await asyncio.to_thread(made, tmp_path, 1, port)
    one, two = f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"
    async with opened(home) as node:
        store = CommitmentStore(node.db, node.seams.clock)
        await store.open()
        await store.ask("1.2.3.1", "RVJ", make.STUDY, [one, two])
        await store.ask("1.2.3.2", "ORTHANC", make.STUDY, [one, two])
        async with listening(home):
            for transaction_uid in ("1.2.3.1", "1.2.3.9"):
                assert await asyncio.to_thread(reported, port, transaction_uid, one) == INVALID_ARGUMENT
            assert await asyncio.to_thread(reported, port, "1.2.3.2", one, "1.2.3.4.5") == 0
            assert await asyncio.to_thread(reported, port, "1.2.3.2", one, two) == 0, "harmless"
        verdicts = {asked.transaction_uid: asked.verdicts for asked in await store.of_study(make.STUDY)}
        assert verdicts == {"1.2.3.1": {one: None, two: None}, "1.2.3.2": {one: 0, two: None}}
