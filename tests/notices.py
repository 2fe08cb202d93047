"""Instance Availability Notifications that archives send, by pynetdicom's SCU."""

from __future__ import annotations

from typing import Any

import dicom_objects as make
from dimse_node import associate
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom.sop_class import InstanceAvailabilityNotification

CONTEXTS = [(str(InstanceAvailabilityNotification), [str(ImplicitVRLittleEndian)])]


def notice(study_uid: str | None, *sop_uids: str) -> Dataset:
    """What PS3.4 Table R.3.2-1 asks for; None: it names no study."""
    said = Dataset()
    said.ReferencedPerformedProcedureStepSequence = []
    if study_uid is not None:
        said.StudyInstanceUID = study_uid
    series = Dataset()
    series.SeriesInstanceUID = f"{study_uid}.1"
    series.ReferencedSOPSequence = []
    for uid in sop_uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = make.CT, uid
        item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", "PACS"
        series.ReferencedSOPSequence.append(item)
    said.ReferencedSeriesSequence = [series]
    return said


def notify(port: int, *said: Dataset, title: str = "PACS", instance: str | None = "") -> list[int]:
    """The statuses of N-CREATE of each, on one association."""
    assoc: Any = associate(port, CONTEXTS, calling=title)
    assert assoc.is_established
    uid = generate_uid() if instance == "" else instance
    statuses = [
        int(assoc.send_n_create(one, InstanceAvailabilityNotification, uid)[0].Status) for one in said
    ]
    assoc.release()
    return statuses
