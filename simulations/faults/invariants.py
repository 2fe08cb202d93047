"""What must hold in every run: at each answer, and when all is mended and quiet."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulations.faults.objects import NUMBERS, ROOT, Image

#: An acknowledged study must be listed, or said to be missing, so long after it was acknowledged: heartbeats
#: tell what waits, and presence ends when they do not come.
KNOWN_WITHIN_S = 30.0
#: A suspended member's studies cannot be opened after so long, wherever.
SUSPENDED_WITHIN_S = 5.0


class BrokenError(Exception):
    """Something that must hold does not."""


@dataclass
class RunRecord:
    """What was acknowledged to whom, and what was in force when.

    Attributes:
        acknowledged: Image -> the node that said it is stored, and when.
        perhaps: Images that were sent and not acknowledged: they may be there or not.
        suspended: Node -> since when.
    """

    acknowledged: dict[Image, tuple[str, float]] = field(default_factory=dict)
    perhaps: set[Image] = field(default_factory=set)
    suspended: dict[str, float] = field(default_factory=dict)

    def stored(self, image: Image, code: str, at_s: float) -> None:
        """A node has acknowledged it."""
        self.acknowledged.setdefault(image, (code, at_s))
        self.perhaps.discard(image)


def check_answer(record: RunRecord, person: int, bundle: Mapping[str, Any], now_s: float) -> None:
    """Of a FHIR search for a person: nobody else's, and complete where it says so.

    Raises:
        BrokenError: if it does not hold.
    """
    listed, warned = listed_and_warned(bundle)
    images = {*record.acknowledged, *record.perhaps}
    persons = {image.study_uid: image.person for image in images}
    for study_uid in listed:
        if study_uid in persons and persons[study_uid] != person:
            raise BrokenError(f"the study {study_uid} is listed for {NUMBERS[person]}, whose it is not")
    if warned:
        return
    for image, (code, at_s) in sorted(record.acknowledged.items()):
        if image.person == person and image.study_uid not in listed and now_s - at_s > KNOWN_WITHIN_S:
            raise BrokenError(
                f"the answer claims to be complete without {image.study_uid}, which {code} acknowledged"
                f" {now_s - at_s:.0f} s before"
            )


def listed_and_warned(bundle: Mapping[str, Any]) -> tuple[set[str], bool]:
    """Study UIDs of a bundle, and whether it says that something may be missing."""
    listed, warned = set(), False
    for entry in bundle.get("entry", ()):
        resource = entry["resource"]
        if resource["resourceType"] == "OperationOutcome":
            warned = warned or any(issue["severity"] in ("warning", "error") for issue in resource["issue"])
        elif resource["resourceType"] == "ImagingStudy":
            listed.add(resource["identifier"][0]["value"].removeprefix("urn:oid:"))
    return listed, warned


def check_opening(record: RunRecord, image: Image, code: str, status: int, now_s: float) -> None:
    """Of a retrieve through the gateway: a suspended member's studies are closed.

    Raises:
        BrokenError: if it does not hold.
    """
    since = record.suspended.get(code)
    if since is not None and now_s - since > SUSPENDED_WITHIN_S and status == 200:
        raise BrokenError(f"{image.study_uid} was opened {now_s - since:.0f} s after {code} was suspended")


def check_archives(record: RunRecord, archives: Mapping[str, Path]) -> None:
    """Nothing that was acknowledged is lost: row and bytes are there.

    Raises:
        BrokenError: if it does not hold.
    """
    sops_at = {code: instances(folder / "node.db") for code, folder in archives.items()}
    for image, (code, _) in sorted(record.acknowledged.items()):
        if image.sop_uid not in sops_at[code]:
            raise BrokenError(f"{code} acknowledged {image.sop_uid} and does not hold it")


def instances(path: Path) -> set[str]:
    """SOP Instance UIDs in a node's database."""
    with sqlite3.connect(path) as connection:
        return {row[0] for row in connection.execute("SELECT sop_uid FROM instance")}


def check_index(
    record: RunRecord, person: int, bundle: Mapping[str, Any], sops_at: Mapping[str, set[str]]
) -> None:
    """When all is mended and quiet: the index says of a person what archives hold, and that it is complete.

    Args:
        record: Of the run.
        person: Who was searched for.
        bundle: The answer.
        held: Code -> SOP Instance UIDs that its archive holds.

    Raises:
        BrokenError: if it does not hold.
    """
    listed = {
        entry["resource"]["identifier"][0]["value"].removeprefix("urn:oid:"): entry["resource"].get(
            "numberOfInstances"
        )
        for entry in bundle.get("entry", ())
        if entry["resource"]["resourceType"] == "ImagingStudy"
    }
    counts: dict[str, int] = defaultdict(int)
    persons = {image.study_uid: image.person for image in {*record.acknowledged, *record.perhaps}}
    for sops in sops_at.values():
        for sop_uid in sops:
            study_uid = sop_uid.rsplit(".", 2)[0]
            if sop_uid.startswith(ROOT) and persons.get(study_uid) == person:
                counts[study_uid] += 1
    if listed != counts:
        raise BrokenError(f"the index has {listed} for {NUMBERS[person]}, the archives {dict(counts)}")
    if listed_and_warned(bundle)[1]:
        raise BrokenError(
            f"all is quiet, and the answer for {NUMBERS[person]} still says that it may be incomplete"
        )


def check_bytes(image: Image, status: int, body: bytes) -> None:
    """When all is mended: what was acknowledged can be opened, to its last byte.

    Raises:
        BrokenError: if it does not hold.
    """
    if status != 200 or image.pixels not in body:
        raise BrokenError(f"{image.sop_uid} was acknowledged and cannot be opened whole (status {status})")


def check_audit(path: Path, *, crashes: int) -> None:
    """Acts are in order, and each has its outcome unless the machine crashed after it.

    Raises:
        BrokenError: if it does not hold.
    """
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT seq, kind, act FROM audit_entry ORDER BY seq").fetchall()
    acts = {seq for seq, kind, _ in rows if kind == "act"}
    ended = {act for _, kind, act in rows if kind == "outcome"}
    if strangers := {act for act in ended if act and act not in acts}:
        raise BrokenError(f"outcomes of acts that are not there: {sorted(strangers)[:5]}")
    if not crashes and (open_acts := acts - ended):
        raise BrokenError(
            f"{path.parent.name}: acts without an outcome, and nothing crashed: {sorted(open_acts)[:5]}"
        )
