"""The endpoints file that clients and outside checks read.

Addresses, sign-ins, and the truth of what is where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from crosslight.runtime.files import Files
from simulations.images import StudyPlan
from simulations.topology import Topology


@dataclass(slots=True)
class ListedStudies:
    """What was loaded and is still there: the truth that answers are held against.

    Kept with the demo's data.
    """

    studies: dict[str, dict[str, Any]] = field(default_factory=dict)  # study UID -> row
    patients: dict[str, dict[str, Any]] = field(default_factory=dict)  # key -> patient
    chapters: int = 0

    def add(self, topology: Topology, plan: StudyPlan, instances: int, *, disputed: bool = False) -> None:
        """A study has been stored."""
        patient = plan.patient
        born = patient.birth_date.isoformat()
        key = f"{patient.family}|{patient.given}|{born}|{patient.index}|{patient.national}"
        national = topology.national
        identifiers = []
        if patient.national and national.authority:
            identifiers.append(
                {"system": national.system, "oid": national.authority, "value": patient.national}
            )
        is_nhs = national.system.endswith("/nhs-number")
        row = self.patients.setdefault(
            key,
            {
                "disputed": disputed and bool(identifiers),  # without a number there is nothing to dispute
                "nhs_number": patient.national if is_nhs and patient.national else None,
                "identifiers": identifiers,
                "family": patient.family,
                "given": patient.given,
                "birth_date": patient.birth_date.isoformat(),
                "local_ids": {},
            },
        )
        row["local_ids"][plan.code] = patient.local_ids[plan.code]
        self.studies[plan.uid] = {
            "study_uid": plan.uid,
            "node": plan.code,
            "modality": plan.modality,
            "accession": plan.accession or f"{plan.code}{plan.seed % 10**7:07d}"[:16],
            "instances": instances,
            "patient": key,
        }

    def set_instances(self, study_uid: str, instances: int) -> None:
        """A correction changed how many live instances a study has."""
        self.studies[study_uid]["instances"] = instances

    def remove(self, study_uid: str) -> None:
        """A study was deleted."""
        self.studies.pop(study_uid, None)

    def listed_at(self, code: str) -> list[str]:
        """Study UIDs that were loaded at a member and not deleted by the story.

        Somebody else may have deleted them since.
        """
        return [uid for uid, study in self.studies.items() if study["node"] == code]

    def follow(self, code: str, instances_of: dict[str, int]) -> bool:
        """Take over what a member holds of them: study UID -> images; whether anything is another."""
        before = [dict(study) for study in self.studies.values()]
        for uid in self.listed_at(code):
            if uid in instances_of:
                self.studies[uid].pop("away", None)
                self.studies[uid]["instances"] = instances_of[uid]
            else:
                self.studies[uid]["away"] = True
        return before != list(self.studies.values())

    def held(self) -> list[dict[str, Any]]:
        """The studies that are there."""
        return [study for study in self.studies.values() if not study.get("away")]

    def listed(self) -> list[dict[str, Any]]:
        """Patients with their studies, as the endpoints file shows them."""
        out = []
        for key, patient in self.patients.items():
            studies = [
                {k: v for k, v in s.items() if k != "patient"} for s in self.held() if s["patient"] == key
            ]
            out.append({**patient, "studies": studies})
        return out

    def save(self, path: Path, files: Files) -> None:
        """Keep it."""
        data = {"studies": self.studies, "patients": self.patients, "chapters": self.chapters}
        files.write_atomic(path, orjson.dumps(data, option=orjson.OPT_INDENT_2))

    @classmethod
    def read(cls, path: Path) -> ListedStudies:
        """Read what was kept; empty without a file."""
        if not path.exists():
            return cls()
        data = orjson.loads(path.read_bytes())
        return cls(data["studies"], data["patients"], data["chapters"])


def write_endpoints(path: Path, content: dict[str, Any], files: Files) -> None:
    """Replace the file by rename, so that a reader never sees half of it; it holds passwords and tokens."""
    files.write_atomic(path, orjson.dumps(content, option=orjson.OPT_INDENT_2))
