"""Our manifest before an outside validator, and the published sample manifests before our reader."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crosslight.standards.dicom.record.kos import build_manifest, parse_manifest
from crosslight.standards.ids import Identifier
from crosslight.standards.study import InstanceRef, Patient, PersonName, StudyRecord, StudyTime

_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.9.1.1")


def _manifest(record: StudyRecord, url: str = "") -> bytes:
    instances = [
        InstanceRef(
            study_uid=record.study_uid,
            series_uid=f"2.25.10{s}",
            sop_class_uid=c,
            sop_uid=f"2.25.10{s}{i}",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            number=str(i),
        )
        for s, c in enumerate(_CLASSES)
        for i in range(3)
    ]
    return build_manifest(
        record,
        instances,
        document_uid="2.25.1",
        series_uid="2.25.2",
        retrieve_ae_title="RTK",
        retrieve_location_uid="2.25.7",
        retrieve_url=url,
        created=datetime(2025, 7, 1, 12, tzinfo=UTC),
    )


_BARE = StudyRecord(study_uid="2.25.5", patient=Patient(local=Identifier("A1")))
_FULL = StudyRecord(
    study_uid="2.25.5",
    patient=Patient(
        local=Identifier("A1", "1.2.99", "RTK"),
        others=(Identifier("9434765919", "2.16.840.1.113883.2.1.4.1"), Identifier("H-7", "", "OLD")),
        name=PersonName("Ōtani^Jo=大谷^譲"),
        birth_date="19700101",
        sex="F",
    ),
    accessions=(Identifier("ACC1", "1.2.5"), Identifier("ACC2", "", "RIS")),
    orders=(Identifier("O1", "1.2.6", "RIS"),),
    study_id="S1",
    description="CT <chest> & more",
    referrer="Smith^A",
    institution="St Peter's",
    time=StudyTime(date="2025.07.01", time="10:10:10", zone="Europe/London", zone_source="site"),
)


@pytest.mark.parametrize("record", [_BARE, _FULL], ids=["bare", "full"])
@pytest.mark.parametrize("url", ["", "https://rtk.example/dicomweb"], ids=["no-url", "url"])
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error(tmp_path: Path, record: StudyRecord, url: str) -> None:
    path = tmp_path / "manifest.dcm"
    path.write_bytes(_manifest(record, url))
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).splitlines()
    assert "KeyObjectSelectionDocument" in said
    assert [line for line in said if line.startswith("Error")] == []


@pytest.mark.standards
def test_sample_manifests_are_read(standards_folder: Path) -> None:
    found = {
        path.name: parse_manifest(path.read_bytes())
        for path in (standards_folder / "samples" / "kos").glob("*.dcm")
    }
    assert len(found) == 5
    assert all(m.role == "manifest" and m.instances and m.patient is not None for m in found.values())
    nist = found["nist-2018-4801a-kos-evaluate.dcm"]
    assert nist.series[0].retrieve_location_uid == "1.3.6.1.4.1.21367.13.80.110"
    assert nist.series[0].retrieve_ae_title == "DCM4CHEE"
    assert [a.value for a in nist.accessions] == ["5347639127757044"]
    mado = found["mado-MADO_KOS_B.dcm"]
    assert mado.series[0].retrieve_url == "https://dicomserver.com/AET/rs/"
    assert [a.value for a in mado.accessions] == ["8529258169397744", "9426932401715315"]
    assert [o.value for o in mado.orders] == ["3712777189356881"]
