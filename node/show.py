"""What the node's commands say, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from crosslight.runtime.terminal import counted, printable
from crosslight.standards.dicom.rules import RecordRules
from node.publish.reread import Figures

MAX_ISSUERS = 8


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
            "Where national numbers are expected and not found: archive.issuers maps an issuer's name, as in (0010,0021), to "
            "its OID; archive.bare_patient_id is for a Patient ID that is the national number itself."
        )
