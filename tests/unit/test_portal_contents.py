"""What a series is said to hold."""

from __future__ import annotations

import pytest

from crosslight.standards.study import SeriesRecord
from registry.portal import series_contents as contents

CT, ENHANCED_CT, US_MF, VIDEO = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.77.1.1.1",
)
SR, ECG, RTPLAN, RTSTRUCT = (
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.9.1.1",
    "1.2.840.10008.5.1.4.1.1.481.5",
    "1.2.840.10008.5.1.4.1.1.481.3",
)
SEG, SURFACE, PDF, KO = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.5",
    "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.88.59",
)
PRIVATE, RAW, RTDOSE = "1.2.826.0.1.9999.1", "1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.481.2"


@pytest.mark.parametrize(
    ("modality", "classes", "n", "said", "pictures"),
    [
        ("CT", ((CT, 40),), 40, "40 images", True),
        ("CT", ((CT, 1),), 1, "1 image", True),
        ("CT", ((ENHANCED_CT, 1),), 1, "1 multi-frame image", True),
        ("US", ((US_MF, 2), (CT, 3)), 5, "3 images and 2 multi-frame images", True),
        ("ES", ((VIDEO, 1),), 1, "1 multi-frame image", True),
        ("SR", ((SR, 1),), 1, "1 structured report", False),
        ("ECG", ((ECG, 2),), 2, "2 ECGs", False),
        ("RTPLAN", ((RTPLAN, 1),), 1, "1 RT plan", False),
        ("RTSTRUCT", ((RTSTRUCT, 1),), 1, "1 RT structure set", False),
        ("RTDOSE", ((RTDOSE, 1),), 1, "1 image", True),
        ("SEG", ((SEG, 1),), 1, "1 multi-frame image", True),
        ("SEG", ((SURFACE, 1),), 1, "1 object without a picture", False),
        ("DOC", ((PDF, 1),), 1, "1 PDF document", False),
        ("KO", ((KO, 1),), 1, "1 key object note", False),
        ("MR", ((RAW, 2),), 2, "2 objects without a picture", False),
        ("MR", ((PRIVATE, 2),), 2, "2 images", True),
        # SOP classes not known: by the modality
        ("MR", (), 12, "12 images", True),
        ("SR", (), 1, "1 structured report", False),
        ("RTPLAN", (), 1, "1 RT plan", False),
        ("ANN", (), 2, "2 objects without a picture", False),
        ("SEG", (), 1, "1 image", True),
        ("CT", ((CT, 3),), 5, "5 images", True),
        ("CT", (), 0, "no images", False),
    ],
)
def test_in_words(
    modality: str, classes: tuple[tuple[str, int], ...], n: int, said: str, pictures: bool
) -> None:
    held = contents.contents_of(
        SeriesRecord(series_uid="1.2", modality=modality, n_instances=n, sop_classes=classes)
    )
    assert contents.in_words(held) == said
    assert contents.has_pictures(held) is pictures


def test_of_a_study() -> None:
    both = [
        SeriesRecord(series_uid="1.2", modality="CT", n_instances=40, sop_classes=((CT, 40),)),
        SeriesRecord(series_uid="1.3", modality="SR", n_instances=1, sop_classes=((SR, 1),)),
    ]
    assert (
        contents.in_words(contents.total(contents.contents_of(s) for s in both))
        == "40 images and 1 structured report"
    )
