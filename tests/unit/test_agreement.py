"""Which copies of a study may stand for one another: nothing that a holder says ranks its copy."""

from __future__ import annotations

from typing import Any

import pytest
from registry_samples import member, patient, study

from crosslight.standards.records import changed
from crosslight.standards.study import SeriesRecord, StudyRecord
from registry.gateway.agreement import agree

A = SeriesRecord(series_uid="1.2.1", modality="CT", n_instances=3, digest="a" * 64)
B = SeriesRecord(series_uid="1.2.2", modality="CT", n_instances=2, digest="b" * 64)


def record(*series: SeriesRecord, **more: Any) -> StudyRecord:
    made = study(patient(member("RTK", 1)), 1).with_series(series or (A, B), detail="full")
    return changed(made, **more)


def test_one_copy_and_equal_copies_agree() -> None:
    assert agree([record()])
    assert agree([record(), record(description="said otherwise"), record(progress="arriving")])


def test_a_holder_that_says_no_digests_agrees_by_numbers() -> None:
    assert agree([record(), record(changed(A, digest=""), changed(B, digest=""))])


@pytest.mark.parametrize(
    "other",
    [
        record(changed(A, n_instances=500), B),
        record(A, B, n_instances=500),
        record(A, B, n_instances=500, progress="arriving"),
        record(A, progress="arriving"),
        record(changed(A, digest="c" * 64), B),
        record(changed(A, series_uid="1.2.9"), B),
        record(changed(A, n_instances=2), changed(B, n_instances=3)),
        record(A, B, changed(A, series_uid="1.2.3")),
        record(A, B, series=(), detail="manifest"),
        record(A, B, series=(), n_series=0, n_instances=0, detail="entry"),
    ],
    ids=["more-in-a-series", "more", "more-to-come", "fewer", "other-bytes", "other-series", "shifted",
         "one-series-more", "no-series", "entry"],
)  # fmt: skip
def test_whatever_differs_or_is_not_said_is_no_agreement(other: StudyRecord) -> None:
    assert not agree([record(), other])
    assert not agree([other, record()])
    assert not agree([record(), record(), other])
