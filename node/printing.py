"""What the node's commands say, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from crosslight.runtime.terminal import counted, printable
from crosslight.standards.dicom.file.verdict import MEANINGS, Note
from crosslight.standards.dicom.record.rules import RecordRules
from node.archive.model import ArchiveStatus, BinEntry, Fault, Quarantined
from node.membership.membership import Membership
from node.publish.model import Parked
from node.publish.reread import Figures
from node.publish.revisions import Withdrawn

MAX_ISSUERS = 8


#: What an operator can do about a refusal, by the registry's code (IHE ITI TF-3 Table 4.2.4.1-2).
_MENDS: dict[str, str] = {
    "XDSRegistryMetadataError": (
        "After a setting of [archive] was put right: restart, or crosslight-node reread STUDY."
    ),
    "XDSUnknownPatientId": (
        "The registry does not know the patient: crosslight-node retry STUDY feeds it again."
    ),
    "XDSPatientIdDoesNotMatch": (
        "The study was moved to another patient there: crosslight-node reread STUDY, then retry."
    ),
    "XDSDuplicateUniqueIdInRegistry": (
        "Another entry has its id there: ask the region's operator, then: crosslight-node retry."
    ),
    "XDSRepositoryOutOfResources": (
        "The registry's disk is full: its operator makes room; then crosslight-node retry."
    ),
    "XDSRegistryOutOfResources": "The registry had no room: crosslight-node retry once it has.",
}
_OTHERWISE = "Mend what the reason names, then: crosslight-node retry STUDY."


def moment(unix: float) -> str:
    """A time for people, in UTC."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"


def day(text: str) -> str:
    """``20101115`` as 2010-11-15."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else text


def membership_rows(membership: Membership | None, *, serving: bool) -> Iterator[tuple[str, str]]:
    """Who the node is, whether it runs, and how it stands with its region."""
    running = "yes" if serving else "NO: crosslight-node serve, or systemctl start crosslight-node"
    if membership is None:
        yield "Member", "has not joined a region: crosslight-node join INVITATION"
        yield "Serving", running
        return
    yield "Member", f"{membership.code} {membership.member.name}"
    yield "Serving", running
    yield from membership.status_rows(serving=serving)


def holding_rows(archived: ArchiveStatus) -> Iterator[tuple[str, str]]:
    """What the archive holds."""
    parts = (
        (archived.studies, "study", "studies"),
        (archived.series, "series", "series"),
        (archived.instances, "instance", ""),
    )
    yield "Held", ", ".join(counted(*part) for part in parts)
    yield "Bytes", f"{archived.object_bytes:,} held, {archived.free_bytes:,} free"
    yield "Taking in", "yes" if archived.accepting else "NO: less than archive.min_free_bytes are free"
    yield "Hidden by rejection notes", counted(archived.hidden, "instance")
    yield "In quarantine", f"{counted(archived.quarantined, 'object')} ({archived.quarantined_bytes:,} bytes)"
    yield "In the bin", counted(archived.binned, "instance")


def refused_lines(refused: Sequence[Parked], total: int) -> Iterator[str]:
    """Which studies the registry refused for good, why, since when, and what mends it."""
    for study in refused:
        since = moment(study.since_unix)
        yield f"refused: {study.study_uid} since {since}: {printable(study.why)} ({study.code})"
        yield f"  {_MENDS.get(study.code, _OTHERWISE).replace('STUDY', study.study_uid)}"
    if total > len(refused):
        yield f"and {counted(total - len(refused), 'more study', 'more studies')} refused."


def waiting_lines(held_back: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Studies that the registry answered for and that wait all the same."""
    for study_uid, why in held_back:
        yield f"waiting: {study_uid}: {printable(why)}"


def withdrawn_lines(withdrawn: Sequence[Withdrawn], total: int) -> Iterator[str]:
    """Studies that are here and of which nothing is in the index, why and since when."""
    for study in withdrawn:
        yield f"withdrawn: {study.study_uid} since {moment(study.since_unix)}: {printable(study.reason)}"
    if withdrawn:
        yield "  Back into the index: crosslight-node publish STUDY"
    if total > len(withdrawn):
        yield f"and {counted(total - len(withdrawn), 'more study', 'more studies')} withdrawn."


def note_lines(noted: Sequence[tuple[Note, int]]) -> Iterator[str]:
    """What the reader tolerated, and in how many studies."""
    for note, studies in noted:
        yield f"note: {note}: {counted(studies, 'study', 'studies')}: {MEANINGS[note]}"
    if noted:
        yield "Which studies have notes: crosslight-node notes"


def quarantine_lines(entries: Sequence[Quarantined], total: int) -> Iterator[str]:
    """Objects that were not let in."""
    for entry in entries:
        yield (
            f"quarantine: {moment(entry.received_unix)} {entry.reason}: {printable(entry.detail)} "
            f"({entry.road} {printable(entry.peer)}) {entry.path}"
        )
    if total > len(entries):
        yield f"and {counted(total - len(entries), 'more object')} in quarantine."


def bin_lines(entries: Sequence[BinEntry], limit: int = 20) -> Iterator[str]:
    """What can be taken back."""
    for study in entries[:limit]:
        instances, when = counted(study.instances, "instance"), moment(study.deleted_unix)
        yield f"bin: {study.study_uid} {instances}, {when}: {printable(study.reason)}"
    if len(entries) > limit:
        yield f"and {counted(len(entries) - limit, 'more study', 'more studies')} in the bin."


def figure_lines(now: Figures, before: Figures | None, rules: RecordRules) -> Iterator[str]:
    """Whose numbers the patients have, and which setting to look at."""
    if not now.studies:
        return
    earlier = f", before {before.percent} %" if before is not None and before.studies else ""
    if now.nationals:
        yield f"National numbers in {now.percent} % of the studies{earlier}."
    else:
        yield "National numbers in none: no national authority is known (archive.national_authorities)."
    numbers = now.numbers
    yield (
        f"Patient numbers: {numbers['own']} of this trust, {numbers['outside']} of other organisations, "
        f"{numbers['none']} without any; the last two are patient records of their own, a study each."
    )
    for issuer, count in now.issuers.most_common(MAX_ISSUERS):
        yield f"  issued by {printable(issuer)!r}: {counted(count, 'study', 'studies')}"
    if len(now.issuers) > MAX_ISSUERS:
        yield f"  and by {len(now.issuers) - MAX_ISSUERS} others"
    if numbers["outside"]:
        yield (
            "If one of these is this trust itself: a name goes into archive.issuers with its OID, or into "
            "archive.patient_namespace; an OID is agreed with the region (join --authority)."
        )
    if now.nationals and now.percent < 50 and not rules.bare_patient_id:
        yield (
            "Where national numbers are expected and not found: archive.issuers maps an issuer's name, as in"
            " (0010,0021), to its OID; archive.bare_patient_id is for a Patient ID that is the national"
            " number itself."
        )


def fault_lines(faults: Sequence[Fault], limit: int = 200) -> Iterator[str]:
    """Which objects are missing or damaged: of which study, in which file."""
    for fault in faults[:limit]:
        yield f"  {fault.kind}: instance {fault.sop_uid} of study {fault.study_uid}: {fault.path}"
    if len(faults) > limit:
        yield f"  and {len(faults) - limit} more"
