"""What the node's commands say, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from crosslight.runtime.terminal import counted, printable
from crosslight.standards.dicom.file.verdict import MEANINGS, Note
from crosslight.standards.dicom.record.rules import RecordRules
from node.archive.carried_rows import CarriageState
from node.archive.config import ArchiveConfig
from node.archive.fault_rows import CareState
from node.archive.model import ArchiveStatus, BinEntry, Fault, Quarantined
from node.archive.mover import FOLDERS, MoveState
from node.membership.membership import Membership
from node.publish.model import Parked
from node.publish.reread import Figures
from node.publish.revisions import Withdrawn
from node.sources.files.rows import FileFigures, FileState
from node.sources.store import SourceFigures

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


def care_rows(state: CareState, period_days: float, now_unix: float) -> Iterator[tuple[str, str]]:
    """How far the reading of every object is, and what is wrong."""
    last = "never yet"
    if state.whole_unix:
        faults = f"{state.whole_faults:,} NOT WHOLE" if state.whole_faults else "all whole"
        last = f"{moment(state.whole_unix)}: {counted(state.whole_objects, 'object')}, {faults}"
    if not period_days:
        yield "Read again", "by verify alone: archive.care.period_days is 0"
    elif state.going:
        spent_s = now_unix - state.began_unix
        left = f", about {spent_s * (1 / state.share - 1) / 86400:,.1f} days to go" if state.share else ""
        yield (
            "Read again",
            f"{state.share:.1%} since {moment(state.began_unix)}: {counted(state.objects, 'object')},"
            f" {state.bytes:,} bytes{left}; last whole {last}",
        )
    else:
        begins = max(state.began_unix + period_days * 86400, now_unix)
        yield "Read again", f"last whole {last}; begins again {moment(begins)}"
    if state.standing:
        yield "Damaged", f"{counted(state.standing, 'object')}: NOT GIVEN OUT; named below"


def retention_rows(config: ArchiveConfig, holds: int) -> Iterator[tuple[str, str]]:
    """What may be deleted by itself, and what keeps it."""
    rules = counted(len(config.retention), "rule")
    how = f"once a day, at most {counted(config.retention_most, 'study', 'studies')}"
    by_hand = "only by crosslight-node retention --apply"
    yield (
        "Retention",
        f"{rules}, applied {how if config.retention_daily else by_hand}"
        if config.retention
        else "no rule: nothing is deleted by itself",
    )
    yield "Legal holds", f"{counted(holds, 'hold')}: crosslight-node hold list" if holds else "none"


def move_rows(moving: MoveState | None) -> Iterator[tuple[str, str]]:
    """How far the images are on their way to another disk."""
    if moving is None:
        return
    what = f"{counted(moving.objects, 'object')}, {moving.bytes:,} bytes, to {moving.target}"
    if moving.ended_unix:
        yield "Moved", f"{what}, on {moment(moving.ended_unix)}: the old disk has none any more"
    elif moving.left_behind:
        yield (
            "Moving",
            f"{what}; {counted(moving.left_behind, 'file')} COULD NOT BE MOVED: see the log",
        )
    elif moving.copied_unix:
        yield (
            "Moving",
            f"{what}: all copied on {moment(moving.copied_unix)}; then the old copies go",
        )
    else:
        yield "Moving", f"{moving.folders / FOLDERS:.0%} since {moment(moving.began_unix)}: {what}"


def carried_rows(carried: CarriageState, url: str, away: str) -> Iterator[tuple[str, str]]:
    """How much lies in the object store; ``away``: why it does not answer."""
    if not url:
        return
    here = f"{carried.here_bytes:,} on the disk too"
    what = f"{counted(carried.objects, 'object')}, {carried.bytes:,} bytes, in {url}; of them {here}"
    yield "Object store", f"{what}. {away}" if away else what
    if carried.home:
        left = carried.bytes - carried.here_bytes
        yield "Back to the disk", f"{left:,} bytes to come" if carried.objects else "all are there"
        return
    waiting = f"{counted(carried.waiting, 'object')}, {carried.waiting_bytes:,} bytes, on the disk alone"
    yield "Waiting for the object store", waiting if carried.waiting else "no object"


def standing_lines(faults: Sequence[tuple[Fault, float]], total: int) -> Iterator[str]:
    """Objects that are damaged or missing now."""
    for fault, found_unix in faults:
        yield f"{fault.kind}: {moment(found_unix)} instance {fault.sop_uid} of study {fault.study_uid}"
    if total > len(faults):
        yield f"and {counted(total - len(faults), 'more object')} damaged or missing."
    if faults:
        yield (
            "  Have them sent again (a C-STORE of the same instance heals it), or:"
            " crosslight-node verify --repair-from BACKUP"
        )


def source_rows(sources: Sequence[SourceFigures | FileFigures]) -> Iterator[tuple[str, str]]:
    """What is known of archives beside which the node stands."""
    for source in sources:
        if isinstance(source, FileFigures):
            yield f"Source {printable(source.name)}", printable(_told(source))
            continue
        dated = [window for window in source.windows if window.name.isdecimal()]
        back = f", compared back to {min(w.name for w in dated)}" if dated else ""
        since = f" since {moment(source.since_unix)}" if source.since_unix else ""
        trouble = f" {printable(source.trouble)}{since}" if source.trouble else ""
        held = f"{counted(source.studies, 'study', 'studies')}, {counted(source.instances, 'instance')}"
        far = (
            f" {len(source.windows_dated)} of {source.n_windows} months compared," if source.n_windows else ""
        )
        differed = f"{far} {counted(source.n_differed, 'study', 'studies')} differed at the last look."
        yield f"Source {printable(source.name)}", f"{held}{back}.{differed}{trouble}"


_FILES = {
    FileState.WAITS: "waiting",
    FileState.LATER: "tried again at the next listing",
    FileState.SAME: "the same as another",
    FileState.OTHER: "no DICOM",
    FileState.PASSED: "held here or by another source",
    FileState.CONFLICT: "IN CONFLICT: other bytes under the same SOP Instance UID",
    FileState.REFUSED: "DICOM that CANNOT BE READ",
}


def _told(known: FileFigures) -> str:
    """What is known of a folder or an object store."""
    walk = known.walk
    parts = [f"{counted(known.files, 'file')}, {known.counts.get(FileState.HELD, 0):,} indexed"]
    parts += [f"{known.counts[state]:,} {word}" for state, word in _FILES.items() if known.counts.get(state)]
    if known.waiting and known.left_s is not None:
        parts.append(f"about {known.left_s / 3600:,.1f} h to go")
    if walk.unread:
        parts.append(f"{counted(walk.unread, 'folder')} below it that CANNOT BE READ")
    if walk.whole_unix:
        parts.append(f"listed whole at {moment(walk.whole_unix)}, {walk.whole_differed:,} differed")
    else:
        parts.append("not listed whole yet")
    since = f" since {moment(walk.since_unix)}" if walk.since_unix else ""
    trouble = f" {walk.trouble}{since}" if walk.trouble else ""
    named = f" Two files each: {', '.join(known.conflicts)}." if known.conflicts else ""
    return f"{'; '.join(parts)}.{named}{trouble}"


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
