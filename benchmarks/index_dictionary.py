"""Trains the index's compression dictionary: ``python -m benchmarks.index_dictionary OUT``, see
registry/index/README.md.

The samples are made up: the words of ordinary imaging departments, vendors' UID roots, times and counts in
ordinary proportions. Nothing of a patient goes in. The result is committed; a new one gets a new number and
the old one stays.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import orjson
import zstandard

from crosslight.standards.ids import Identifier, Oid, Version
from crosslight.standards.study import Coded, ManifestFacts, Patient, SeriesRecord, StudyRecord, StudyTime
from crosslight.standards.xds.model.publication import Publication, Source
from registry.index.codec import derived_ids, publication_array

SIZE = 8192  # bytes
SAMPLES = 8000
ROOTS = (
    "1.2.840.113619.2.",
    "1.3.12.2.1107.5.",
    "1.2.392.200036.9116.2.",
    "1.2.826.0.1.3680043.",
    "1.3.46.670589.",
    "1.2.276.0.7230010.3.",
    "1.2.392.200046.100.",
    "1.2.124.113532.",
    "2.25.",
    "1.3.6.1.4.1.",
)
#: modality, share, SOP Class suffixes, body sites, study words, series words, (fewest, most) series, (fewest,
#: most) instances
MIX = (
    (
        "DX",
        30,
        ("1.1",),
        "CHEST ABDOMEN PELVIS HAND FOOT KNEE ANKLE WRIST HIP SHOULDER ELBOW LSPINE CSPINE SKULL",
        (
            "XR Chest",
            "XR Chest PA",
            "XR Abdomen",
            "XR Pelvis",
            "XR Hip",
            "XR Knee",
            "XR Ankle",
            "XR Wrist",
            "XR Hand",
            "XR Foot",
            "XR Shoulder",
            "XR Elbow",
            "XR Cervical spine",
            "XR Lumbar spine",
        ),
        ("PA", "AP", "Lateral", "LAT", "Oblique", "AP Supine", "Mobile", ""),
        (1, 3),
        (1, 3),
    ),
    (
        "CR",
        16,
        ("1",),
        "CHEST ABDOMEN PELVIS HAND FOOT KNEE EXTREMITY",
        ("XR Chest", "CHEST PA", "XR Abdomen supine", "XR Pelvis and hip"),
        ("PA", "AP", "LATERAL", ""),
        (1, 2),
        (1, 2),
    ),
    (
        "CT",
        18,
        ("2", "2.1"),
        "HEAD CHEST ABDOMEN PELVIS NECK SPINE BRAIN HEART CHESTABDPEL",
        (
            "CT Head",
            "CT Thorax abdomen pelvis with contrast",
            "CT Abdomen and pelvis",
            "CT Pulmonary angiogram",
            "CT Chest",
            "CT Colon",
            "CT Urinary tract",
            "CT Angiogram aorta",
            "CT Neck",
            "CT Sinuses",
            "CT Cervical spine",
        ),
        (
            "Localiser",
            "Scout",
            "Topogram",
            "Axial",
            "Coronal",
            "Sagittal",
            "Lung 1.0",
            "Soft tissue 5.0",
            "Bone 2.0",
            "Arterial",
            "Portal venous",
            "Thin",
            "MPR",
            "Dose Report",
            "Patient Protocol",
        ),
        (2, 9),
        (1, 700),
    ),
    (
        "MR",
        9,
        ("4", "4.1"),
        "BRAIN HEAD SPINE LSPINE KNEE PELVIS ABDOMEN PROSTATE SHOULDER",
        (
            "MRI Head",
            "MRI Brain with contrast",
            "MRI Spine lumbar",
            "MRI Knee",
            "MRI Prostate",
            "MRI Shoulder",
            "MRCP",
            "MRI Abdomen",
        ),
        (
            "Localizer",
            "T1 AX",
            "T2 AX",
            "T2 SAG",
            "FLAIR",
            "DWI",
            "ADC",
            "STIR COR",
            "T1 post contrast",
            "SWI",
            "TOF",
            "PD SAG FS",
        ),
        (5, 14),
        (3, 200),
    ),
    (
        "US",
        16,
        ("6.1", "3.1"),
        "ABDOMEN PELVIS NECK LEG BREAST",
        (
            "US Abdomen",
            "US Abdomen and pelvis",
            "US Pelvis",
            "US Neck",
            "US Doppler leg veins",
            "US Testes",
            "US Obstetric",
            "US Guided biopsy",
        ),
        ("", "Abdomen", "Doppler"),
        (1, 2),
        (4, 80),
    ),
    (
        "MG",
        4,
        ("1.2", "13.1.3"),
        "BREAST",
        ("MG Mammogram bilateral", "Mammogram both breasts", "Breast tomosynthesis"),
        ("LCC", "RCC", "LMLO", "RMLO", "L CC", "R MLO"),
        (2, 4),
        (1, 1),
    ),
    (
        "XA",
        3,
        ("12.1",),
        "HEART",
        ("Coronary angiogram", "XA Cerebral angiogram", "Fluoroscopy"),
        ("Coro", "", "Single shot"),
        (2, 14),
        (1, 3),
    ),
    (
        "NM",
        2,
        ("20",),
        "WHOLEBODY",
        ("NM Bone scan", "NM Renogram"),
        ("WB", "Static", "Dynamic"),
        (1, 3),
        (1, 4),
    ),
    ("PT", 1, ("128",), "WHOLEBODY", ("PET CT whole body",), ("PET WB", "AC CT", "NAC"), (3, 6), (100, 400)),
    ("SR", 1, ("88.67", "88.33"), "", ("Dose report",), ("Dose Report", "Radiation dose"), (1, 1), (1, 1)),
)
ZONES = (("Europe/London", "site"),) * 8 + (
    ("+0000", "tag"),
    ("+0100", "tag"),
    ("America/New_York", "site"),
    ("", "none"),
)
NAMES = [
    "Smith",
    "Jones",
    "Patel",
    "Brown",
    "Khan",
    "Taylor",
    "Okafor",
    "Wilson",
    "Singh",
    "Davies",
    "Evans",
    "Hussain",
    "Thomas",
    "Roberts",
    "Murphy",
    "Kelly",
]
TRUSTS = (
    "Royal",
    "University Hospitals",
    "St",
    "General Hospital",
    "NHS Foundation Trust",
    "NHS Trust",
    "Infirmary",
    "County",
    "District",
)


def uid(r: random.Random) -> str:
    """A UID of one of the roots with random arcs."""
    return (
        r.choice(ROOTS)
        + ".".join(str(r.randrange(10 ** r.randrange(1, 15))) for _ in range(r.randrange(1, 4)))
    )[:60]


def sample(r: random.Random) -> tuple[Publication, bytes]:
    """Make up one publication to train with."""
    modality, _, sops, sites, texts, words, (few, many), (least, most) = r.choices(
        MIX, [row[1] for row in MIX]
    )[0]
    study_uid, zone = uid(r), r.choice(ZONES)
    date = (
        f"{r.choice((19, 20, 20, 20))}{r.randrange(100):02d}{r.randrange(1, 13):02d}{r.randrange(1, 29):02d}"
    )
    hour, minute, fraction = r.randrange(7, 20), r.randrange(60), r.choice(("", "", ".000", ".000000"))
    stem, series = study_uid.rsplit(".", 1)[0], []
    for number in range(1, r.randint(few, many) + 1):
        n = r.randint(least, most)
        tm = f"{hour:02d}{minute:02d}{r.randrange(60):02d}{fraction}"
        series.append(
            SeriesRecord(
                series_uid=(
                    f"{stem}.{r.randrange(10 ** r.randrange(1, 15))}"[:64] if r.random() < 0.8 else uid(r)
                ),
                modality=modality,
                number=str(number if r.random() < 0.8 else 100 * number + 1),
                description=r.choice(words),
                body_site=r.choice(sites.split() or [""]),
                laterality=r.choice(("", "", "", "L", "R")),
                n_instances=n,
                sop_classes=((f"1.2.840.10008.5.1.4.1.1.{r.choice(sops)}", n),),
                time=StudyTime(date=date, time=tm, zone=zone[0], zone_source=zone[1]),  # type: ignore[arg-type]
                digest=r.randbytes(32).hex(),
            )
        )
    source = Source(
        code="X",
        name="X",
        repository_unique_id=Oid("1.2.3"),
        retrieve_location_uid=Oid("1.2.4"),
        authority=Oid("1.2.5"),
    )
    record = StudyRecord(
        study_uid=study_uid,
        patient=Patient(local=Identifier("1", source.authority)),
        accessions=(
            Identifier(f"{r.choice(('', 'RA', 'E', 'X', 'ACC'))}{r.randrange(10**9)}", source.authority),
        ),
        study_id=r.choice(("", str(r.randrange(10**6)))),
        description=r.choice(texts),
        procedure_codes=(
            Coded(
                f"{modality[0]}{r.choice(texts)[3:6].upper()}",
                r.choice(("99LOCAL", "SNM3", "SCT", "L")),
                r.choice(texts),
            ),
        ),
        referrer=r.choice(
            (
                "",
                f"{r.choice(NAMES)}^{r.choice('ABCDEJMPRST')}",
                f"{r.choice(NAMES)}^{r.choice(NAMES)}^^Dr",
                f"DR {r.choice(NAMES)}",
            )
        ),
        institution=" ".join(r.sample(TRUSTS, 3)),
        time=StudyTime(
            date=date, time=f"{hour:02d}{minute:02d}00{fraction}", zone=zone[0], zone_source=zone[1]
        ),  # type: ignore[arg-type]
    ).with_series(series, detail=r.choice(("full", "full", "full", "manifest", "entry")))
    version = Version(r.randrange(1, 4), r.randrange(1, 10**6))
    replaces = Version(version.epoch, max(1, version.n - 1)) if r.random() < 0.4 else None
    ids: dict[str, Any] = {**derived_ids(version, replaces, b"0123456789")}
    day = f"2026{r.randrange(1, 13):02d}{r.randrange(1, 29):02d}"
    at = f"{day}{r.randrange(24):02d}{r.randrange(60):02d}{r.randrange(60):02d}"
    manifest = ManifestFacts(
        document_uid=ids.pop("document_uid"),
        sha1=r.randbytes(20).hex(),
        size_bytes=r.randrange(2000, 90000),
        creation_time=at,
    )
    return (
        Publication(
            source=source, record=record, manifest=manifest, version=version, submission_time=at, **ids
        ),
        b"secret",
    )


def main(out: Path) -> None:
    """Train and write."""
    r = random.Random(20260101)
    arrays: list[bytes | bytearray | memoryview[int]] = []
    for _ in range(SAMPLES):
        publication, secret = sample(r)
        arrays.append(orjson.dumps(publication_array(publication, r.randbytes(32).hex(), secret)[0]))
    out.write_bytes(zstandard.train_dictionary(SIZE, arrays).as_bytes())
    print(
        f"{out}: {out.stat().st_size} bytes from {len(arrays)} samples,"
        f" {sum(map(len, arrays)) // len(arrays)} bytes each"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
