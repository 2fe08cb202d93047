"""The StudyRecord that a member's own feed would have sent, made of a manifest and a list of series (D17).

Pure. The entry's own words stand where it has them: which patient, and under whose authority its accession
and order numbers are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from crosslight.standards.dicom.record.kos import Manifest, zone_offset
from crosslight.standards.dicom.record.record import Instance, build
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Conflict
from crosslight.standards.records import changed
from crosslight.standards.region import Region
from crosslight.standards.study import SeriesRecord, StudyRecord, StudyTime
from crosslight.standards.xds.mapping.people import with_whole_name
from registry.members.model import Member


def manifest_record(entry: StudyRecord, manifest: Manifest) -> StudyRecord:
    """What the manifest alone adds: series with their counts and classes, times in the source's own zone."""
    by_series: dict[str, Counter[str]] = {}
    for instance in manifest.instances:
        if instance.study_uid == entry.study_uid:  # it may reference others beside
            by_series.setdefault(instance.series_uid, Counter())[instance.sop_class_uid] += 1
    series = [
        SeriesRecord(series_uid=uid, n_instances=classes.total(), sop_classes=tuple(sorted(classes.items())))
        for uid, classes in by_series.items()
    ]
    record = changed(
        entry,
        accessions=identified(manifest.accessions, entry.accessions),
        orders=identified(manifest.orders, entry.orders),
        time=manifest.time if manifest.time.date and manifest.time.zone else entry.time,
    )
    return record.with_series(series, detail="manifest")


def full_record(
    entry: StudyRecord, manifest: Manifest, rows: Sequence[dict[str, Any]], member: Member, region: Region
) -> StudyRecord:
    """The whole record.

    Args:
        entry: As registered.
        manifest: Which instances, of which classes.
        rows: QIDO-RS rows of the study's series, with the study's attributes in them.
        member: The holder; region: its zone and national numbers.

    Raises:
        Conflict: the member describes other series than the manifest names: it has a newer version under way.
    """
    by_uid = {_text(row, "0020000E"): row for row in rows}
    named = {instance.series_uid for instance in manifest.instances}
    if not named or not named <= by_uid.keys():
        raise Conflict(
            "The member describes other series than its manifest names.", todo="A newer version will come."
        )
    rules = RecordRules(
        authority=member.authority,
        authorities=member.authorities,
        namespace=member.code,
        site_zone=region.zone,
        nationals=region.nationals,
        allow_test_numbers=region.allow_test_numbers,
    )
    instances = [
        Instance(
            series_uid=i.series_uid,
            sop_uid=i.sop_uid,
            sop_class_uid=i.sop_class_uid,
            sha256="",
            study=by_uid[i.series_uid],
            series=by_uid[i.series_uid],
        )
        for i in manifest.instances
    ]
    record = build(entry.study_uid, instances, rules)
    if record is None:
        raise Conflict("The manifest names nothing.")
    time = _zoned(record.time, entry, manifest)
    return changed(
        record,
        patient=with_whole_name(entry.patient, record.patient.name),
        accessions=identified(record.accessions, entry.accessions),
        orders=identified(record.orders, entry.orders),
        time=time,
        series=tuple(
            changed(s, digest="", time=_same_zone(s.time, record.time, time)) for s in record.series
        ),
        progress=entry.progress,
    )


def identified(numbers: Iterable[Identifier], registered: Sequence[Identifier]) -> tuple[Identifier, ...]:
    """Numbers as found in the objects, under the authorities that the entry registered them under."""
    by_value: dict[str, Identifier] = {}
    for number in registered:
        by_value.setdefault(number.value, number)
    kept = []
    for number in numbers:
        known = by_value.pop(number.value, None)
        kept.append(
            replace(number, authority=known.authority) if known is not None and known.authority else number
        )
    return tuple(sorted({*kept, *by_value.values()}))  # in the order in which a node sorts them


def _zoned(built: StudyTime, entry: StudyRecord, manifest: Manifest) -> StudyTime:
    """The study's time.

    Where the site's zone is not the region's, in the offset that the manifest declares.
    """
    declared, registered = manifest.time.zone, entry.time.interval()
    if built.zone_source == "tag" or not declared or zone_offset(built) == declared or registered is None:
        return built
    return changed(built, zone=declared, zone_source="site")


def _same_zone(time: StudyTime, before: StudyTime, now: StudyTime) -> StudyTime:
    return (
        changed(time, zone=now.zone, zone_source=now.zone_source)
        if time.zone == before.zone != now.zone
        else time
    )


def _text(row: dict[str, Any], tag: str) -> str:
    value = row.get(tag, {}).get("Value") or [""]
    return str(value[0])


def studies_of(manifest: Manifest) -> tuple[str, ...]:
    """The studies of the objects that a manifest references; its own where it references none."""
    return tuple(sorted({instance.study_uid for instance in manifest.instances} or {manifest.study_uid}))
