"""``crosslight-node reject``: rejection notes that are made here (IHE RAD TF-3 4.66, IOCM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from crosslight.runtime.command import run
from crosslight.runtime.seams import Seams
from crosslight.runtime.terminal import counted, make_console
from crosslight.standards.dicom.record.kos import build_manifest
from crosslight.standards.dicom.record.kos_read import REJECTION_TITLES
from crosslight.standards.problem import NotFound, StorageError
from crosslight.standards.study import Coded, InstanceRef, StudyRecord
from node.archive.holds import held_by
from node.holdings import Received
from node.offline import at_the_machine, opened

#: What a person says, and the code of PS3.16 CID 7011.
REASONS: Final = {"quality": "113001", "safety": "113037", "worklist": "113038", "expired": "113039"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """What is rejected: a study, a series or one instance of it."""

    study_uid: str
    series_uid: str = ""
    sop_uid: str = ""
    reason: str

    @property
    def title(self) -> Coded:
        """The note's document title."""
        code = REASONS[self.reason]
        return Coded(value=code, scheme="DCM", meaning=REJECTION_TITLES[code, "DCM"])


def rejection_note(
    record: StudyRecord, instances: Sequence[InstanceRef], rejected: Rejected, seams: Seams
) -> bytes:
    """A Key Object Selection that rejects ``instances``, as a Part 10 file."""
    return build_manifest(
        record,
        instances,
        document_uid=f"2.25.{seams.ids.uuid4().int}",
        series_uid=f"2.25.{seams.ids.uuid4().int}",
        retrieve_ae_title="",
        retrieve_location_uid="",
        created=seams.clock.now(),
        title=rejected.title,
    )


async def reject_by_note(folder: Path, rejected: Rejected, out: Path | None) -> int:
    """Hide what is rejected; how many instances the note names.

    Raises:
        NotFound: nothing of it is held.
        Conflict: its retention time is said to be over, and a legal hold keeps it.
    """
    async with opened(folder) as node:
        archive, seams = node.archive, node.seams
        record = await archive.record(rejected.study_uid)
        objects = await archive.objects(rejected.study_uid, rejected.series_uid, rejected.sop_uid)
        if record is None or not objects:
            raise NotFound("Nothing of that is held here.", where=rejected.study_uid)
        if rejected.reason == "expired" and (holds := await archive.holds.of(rejected.study_uid)):
            raise held_by(holds[0])
        note = rejection_note(record, [held.ref for held in objects], rejected, seams)
        told = {"title": rejected.title.meaning, "series": rejected.series_uid, "instance": rejected.sop_uid}
        async with await at_the_machine(node, "delete", rejected.study_uid, **told) as act:
            staged = archive.stage()
            staged.write(note)
            result = await archive.ingest_async(
                staged, Received(road="import", peer="crosslight-node reject")
            )
            if result.state != "stored":
                raise StorageError("The note was not taken in.", why=result.reason)
            act.done(instances=len(objects))
        if out is not None:
            seams.files.write_atomic(out, note)
        return len(objects)


@click.command()
@click.argument("study_uid")
@click.option("--series", "series_uid", default="", help="Only this series.")
@click.option("--instance", "sop_uid", default="", help="Only this instance.")
@click.option(
    "--reason",
    required=True,
    type=click.Choice(list(REASONS)),
    help="Why: bad quality, a danger to the patient, a wrong worklist entry, or the retention time is over.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the note there too, for the PACS.")
@click.pass_obj
def reject(
    folder: Path, study_uid: str, series_uid: str, sop_uid: str, reason: str, out: Path | None
) -> None:
    """Reject a study, a series or an instance by a note of IHE IOCM: it is hidden here and in the region."""
    rejected = Rejected(study_uid=study_uid, series_uid=series_uid, sop_uid=sop_uid, reason=reason)
    count = run(reject_by_note(folder, rejected, out))
    make_console().print(
        f"{counted(count, 'instance is', 'instances are')} rejected and hidden.", highlight=False
    )
