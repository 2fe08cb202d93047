"""What is imaged where in a demo beside archives of others: a traveller with a study in each of them.

And what is done there behind the nodes' backs.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

from simulations.images import StudyPlan
from simulations.people import SyntheticPatient, make_patients
from simulations.plan import Chapter, Followed, make_chapter, plan_study
from simulations.topology import OWN_ARCHIVE, ArchivePlan, Topology

_MODALITIES = ("CT", "MR", "CR", "MR", "US", "CR", "CT")
_SLICES = {"CT": 24, "MR": 8}


def make_foreign_chapter(
    topology: Topology, authorities: dict[str, str], number: int, today: date
) -> Chapter:
    """As :func:`simulations.plan.make_chapter`, for a region with archives of others."""
    chapter = make_chapter(topology, authorities, number, today)
    others = make_patients(
        len(topology.archives), topology.codes, seed=5000 + number, national=bool(topology.national.authority)
    )

    def study(
        archive: ArchivePlan,
        patient: SyntheticPatient,
        modality: str,
        days_ago: int,
        offset: int,
        images: int,
    ) -> StudyPlan:
        when = datetime(today.year, today.month, today.day, 9, 17) - timedelta(days=days_ago)
        member, seed = topology.codes.index(archive.member), number * 1000 + offset
        plan = plan_study(topology, authorities, patient, member, modality, when, seed, 0, images)
        return replace(plan, archive=archive.key)

    travelled, followed = [], []
    for nth, archive in enumerate(topology.archives):
        modality = _MODALITIES[nth % len(_MODALITIES)]
        images = _SLICES.get(modality, 0)
        travelled.append(study(archive, chapter.traveller, modality, 10 + 7 * nth, 300 + nth, images))
        if archive.kind != OWN_ARCHIVE:
            followed.append(
                Followed(
                    key=archive.key,
                    added=study(archive, chapter.traveller, "CT", 1, 400 + nth, 2),
                    corrected=study(archive, others[nth], "MR", 5, 500 + nth, 3),
                    deleted=study(archive, others[nth], "CT", 6, 600 + nth, 2),
                )
            )
    return replace(chapter, travelled=tuple(travelled), followed=tuple(followed))
