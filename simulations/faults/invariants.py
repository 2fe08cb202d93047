"""What must hold in every run: at each answer, and when all is mended and quiet."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crosslight.standards.ids import Version, hash8
from registry.index.rows import version_int
from simulations.faults.objects import NUMBERS, ROOT, Image
from simulations.faults.plan import LIMIT_S

#: An acknowledged study must be listed, or said to be missing, so long after it was acknowledged: heartbeats
#: tell what waits, and presence ends when they do not come.
KNOWN_WITHIN_S = 30.0
#: A suspended member's studies cannot be opened after so long, wherever.
SUSPENDED_WITHIN_S = 5.0
#: A node whose line is whole has linked, and heard what it missed, after so long.
HEARD_WITHIN_S = 20.0


class BrokenError(Exception):
    """Something that must hold does not."""


@dataclass
class RunRecord:
    """What was acknowledged to whom, and what was in force when.

    Attributes:
        acknowledged: Image -> the node that said it is stored, and when.
        perhaps: Images that were sent and not acknowledged: they may be there or not.
        suspended: Node -> since when.
        shown: (service, action, study) -> how often it was answered since the service's audit began.
        skewed: Services whose clock was ever wrong.
        forgetful: Services that were ever restored from a backup.
    """

    acknowledged: dict[Image, tuple[str, float]] = field(default_factory=dict)
    perhaps: set[Image] = field(default_factory=set)
    suspended: dict[str, float] = field(default_factory=dict)
    shown: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    skewed: set[str] = field(default_factory=set)
    forgetful: set[str] = field(default_factory=set)

    def stored(self, image: Image, code: str, at_s: float) -> None:
        """A node has acknowledged it."""
        self.acknowledged.setdefault(image, (code, at_s))
        self.perhaps.discard(image)

    def showed(self, service: str, action: str, study_uid: str) -> None:
        """A service has answered."""
        self.shown[service, action, study_uid] += 1

    def restored(self, service: str, as_of_s: float) -> None:
        """A service is as of a backup: what it acknowledged and audited since may be lost."""
        self.forgetful.add(service)
        self.shown = Counter({key: n for key, n in self.shown.items() if key[0] != service})
        for image, (code, at_s) in list(self.acknowledged.items()):
            if code == service and at_s >= as_of_s:
                del self.acknowledged[image]
                self.perhaps.add(image)


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
    for code, since in sorted(record.suspended.items()):
        if now_s - since > SUSPENDED_WITHIN_S and not _says(bundle, f"member={code} state=suspended"):
            raise BrokenError(f"an answer says nothing of {code}, suspended {now_s - since:.0f} s before")
    if warned:
        return
    for image, (code, at_s) in sorted(record.acknowledged.items()):
        if image.person == person and image.study_uid not in listed and now_s - at_s > KNOWN_WITHIN_S:
            raise BrokenError(
                f"the answer claims to be complete without {image.study_uid}, which {code} acknowledged"
                f" {now_s - at_s:.0f} s before"
            )


def _says(bundle: Mapping[str, Any], words: str) -> bool:
    issues = (issue for entry in bundle.get("entry", ()) for issue in entry["resource"].get("issue", ()))
    return any(words in issue.get("diagnostics", "") for issue in issues)


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


def check_asked(record: RunRecord, code: str, status: int, now_s: float, whole_since_s: float) -> None:
    """Of a question to a node itself: what it heard of a suspension holds there too.

    Args:
        record: Of the run.
        code: Who is suspended: the node, or another that asks it.
        status: Of its answer. now_s: When it was asked.
        whole_since_s: Since when it could hear.

    Raises:
        BrokenError: if it does not hold.
    """
    since = record.suspended.get(code)
    if since is None or status != 200:
        return
    if now_s - since > SUSPENDED_WITHIN_S and now_s - whole_since_s > HEARD_WITHIN_S:
        raise BrokenError(f"asked itself, a node let go {now_s - since:.0f} s after {code} was suspended")


def check_limit(record: RunRecord, suspended: str, now_s: float) -> None:
    """Of a node that let in a suspended member by its certificate, where clocks were always right.

    It may not have heard of the suspension, until its directory is past its limit.

    Raises:
        BrokenError: if it does not hold.
    """
    since = record.suspended.get(suspended)
    if since is not None and now_s - since > LIMIT_S:
        raise BrokenError(f"a node let {suspended} in {now_s - since:.0f} s after it was suspended")


def check_shown(record: RunRecord, audit: Path, service: str, action: str, study_uid: str) -> None:
    """Of an answer that has come: its act is in the audit already, once for each answer.

    Raises:
        BrokenError: if it does not hold.
    """
    sql = "SELECT count(*) FROM audit_act a JOIN audit_said s ON s.number = a.said WHERE s.action = ?"
    with closing(sqlite3.connect(audit)) as connection:
        names = connection.execute("SELECT number FROM audit_study WHERE uid = ?", (study_uid,)).fetchall()
        numbers = [number.to_bytes(8, "big", signed=True) for (number,) in names]
        if study_uid:
            sql += f" AND ({' OR '.join(['instr(a.studies, ?)'] * len(numbers)) or '0'})"
        acts = connection.execute(sql, (action, *numbers)).fetchone()[0]
    answers = record.shown[service, action, study_uid]
    if acts < answers:
        raise BrokenError(f"{service} audited {acts} acts ({action} {study_uid}) and answered {answers}")


def check_acknowledged(index: Path, node: Path, code: str, member: int) -> None:
    """What the registry acknowledged to a node it has, or something newer: also at the moment of a crash.

    Raises:
        BrokenError: if it does not hold.
    """
    with closing(sqlite3.connect(node)) as connection:
        acked = connection.execute("SELECT study_uid, epoch, n FROM publish_acked").fetchall()
    with closing(sqlite3.connect(index)) as connection:
        versions = {
            (table, row[0]): row[1]
            for table in ("holding", "tombstone")
            for row in connection.execute(
                f"SELECT study_hash, max(version) FROM {table} WHERE member_id = ? GROUP BY study_hash",
                (member,),
            )
        }
    for study_uid, epoch, n in acked:
        known = max(versions.get((table, hash8(study_uid)), -1) for table in ("holding", "tombstone"))
        if known < version_int(Version(epoch, n)):
            raise BrokenError(
                f"the registry acknowledged version {epoch}.{n} of {study_uid} to {code} and lost it"
            )


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
    with closing(sqlite3.connect(path)) as connection:
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


def check_audit(path: Path, *, ends_lost: int, clock_right: bool) -> None:
    """Rows are in order and none is missing; each act has its outcome, where that could be written.

    Args:
        path: Of the audit.
        ends_lost: How often its machine crashed, or its full disk refused something.
        clock_right: Whether it always was: then times follow each other as the rows do.

    Raises:
        BrokenError: if it does not hold.
    """
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT seq, at FROM audit_act ORDER BY seq").fetchall()
        ended = dict(connection.execute("SELECT act, at FROM audit_outcome").fetchall())
    acts = dict(rows)
    if list(acts) != list(range(1, len(acts) + 1)):
        raise BrokenError(f"{path.parent.name}: the audit has gaps")
    if clock_right and any(at < acts.get(act, at) for act, at in ended.items()):
        raise BrokenError(f"{path.parent.name}: an outcome stands before its act")
    if clock_right and list(acts.values()) != sorted(acts.values()):
        raise BrokenError(f"{path.parent.name}: the audit is not in the order of time")
    if strangers := ended.keys() - acts.keys():
        raise BrokenError(f"outcomes of acts that are not there: {sorted(strangers)[:5]}")
    if not ends_lost and (open_acts := acts.keys() - ended.keys()):
        raise BrokenError(
            f"{path.parent.name}: acts without an outcome, and nothing crashed: {sorted(open_acts)[:5]}"
        )
