"""The ``[archive]`` section of a node's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import section, setting
from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.membership import MembershipFacts
from crosslight.standards.region import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class CareConfig:
    """[archive.care]: every object is read again, slowly, and compared with its digest."""

    period_days: float = setting(
        90.0,
        "Days from the beginning of one reading of all objects to the beginning of the next; 0: none is read"
        " by itself.",
        low=0,
    )
    mb_per_s: float = setting(
        10.0,
        "Most that is read for this, in megabytes a second; an eighth of it while objects come in or are"
        " opened.",
        low=0.01,
        high=10_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStoreConfig:
    """[archive.object_store]: objects go to an object store once they are durable on the disk."""

    url: str = setting(
        "",
        "s3://bucket or s3://bucket/prefix, for this archive alone. Empty: objects stay on the disk.",
        example="s3://images/rtk",
    )
    endpoint: str = setting("", "Its address. Empty: the region's own.", example="https://s3.trust.example")
    region: str = setting("us-east-1", "Its region; stores of one's own mostly do not mind.")
    credentials_file: str = setting(
        "",
        "TOML file in the node's folder, mode 0600, with access_key_id and secret_access_key. Empty: the"
        " environment's (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).",
    )
    anonymous: bool = setting(False, "Whether it is asked without credentials.")
    tls_ca: str = setting("", "PEM file of the authorities of its certificate. Empty: those of the machine.")
    keep_local_gb: float = setting(
        100.0,
        "Gigabytes of what lies in the object store that the disk keeps too, for what was received or opened"
        " last. More is kept only of studies that were opened in the last two hours.",
        low=0,
    )
    mb_per_s: float = setting(
        40.0,
        "Most that is carried there, in megabytes a second; an eighth of it while objects come in or are"
        " opened.",
        low=0.01,
        high=10_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """[[archive.retention]]: how long studies are kept, at least."""

    name: str = setting(help="What it is called in reports and in the audit.", example="adults")
    modalities: tuple[str, ...] = setting(
        (),
        "Studies with one of these (0008,0060), whatever else is in them. Empty: all studies.",
        example=["CT", "MR"],
    )
    counted_from: str = setting(
        "study",
        "What the years count from: the study's date (study), the receipt of its last object (stored), or the"
        " last time it was opened or received (opened).",
        choices=("study", "stored", "opened"),
    )
    keep_years: int = setting(help="Years for which it is kept.", low=1, high=200, example=8)
    until_age_years: int = setting(
        0, "Kept until the patient is so old, too: 25 for children's images. 0: no matter.", low=0, high=150
    )
    committed_to: str = setting(
        "",
        "AE title of one of `[[dimse.destinations]]`: a study goes only once that has committed to keep each"
        " object of it (`crosslight-node commitment ask`). Empty: nobody has to.",
        example="LONGTERM",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfig:
    """Where and how objects are kept, and how patients, issuers and times in them are read."""

    min_free_bytes: int = setting(
        1 << 30,
        "Below this many free bytes on the archive's disk new objects are refused (C-STORE 0xA700) "
        "until there is "
        "space again.",
        low=0,
    )
    max_object_bytes: int = setting(8 << 30, "Largest single object that is accepted.", low=1 << 20)
    max_inflated_bytes: int = setting(
        512 << 20,
        "Largest deflated data set once inflated; it is held in memory while it is read.",
        low=1 << 20,
        high=2 << 30,
    )
    max_elements: int = setting(
        20_000_000,
        "Most data elements and items of one object; the time of reading it is linear in them. A "
        "segmentation of "
        "100,000 frames has some three million.",
        low=10_000,
    )
    bin_days: float = setting(30.0, "Days for which a deleted study can be restored.", low=0)
    quarantine_days: float = setting(
        30.0, "Days for which refused and conflicting objects are kept for inspection.", low=0
    )
    quarantine_max_bytes: int = setting(
        10 << 30, "Most that the quarantine may hold; the oldest objects go first.", low=0
    )
    patient_authority: str = setting(
        "",
        "OID under which this trust issues its patient numbers: that of numbers that name no issuer. "
        "It must be agreed with "
        "the region (join --authority); nothing is published before. Empty: the first one agreed, "
        "else the one that the "
        "region allotted when the node joined.",
        example="2.16.840.1.113883.2.1.3.2.4.18.24",
    )
    patient_namespace: str = setting(
        "",
        "Name of that authority as it stands in Issuer of Patient ID (0010,0021). Empty: the organisation"
        " code.",
        example="RTK",
    )
    national_authorities: tuple[str, ...] = setting(
        (),
        "OIDs of national patient numbers. Empty: those of the region. Numbers are read only where "
        "their issuer is named.",
        example=["2.16.840.1.113883.2.1.4.1"],
    )
    issuers: dict[str, str] = setting(
        {},
        "Issuer names as they stand in (0010,0021), and the OID of each, e.g. { NHS = "
        '"2.16.840.1.113883.2.1.4.1" }.',
    )
    bare_patient_id: str = setting(
        "",
        "OID of the national authority when this trust's Patient ID (0010,0020) is the national "
        "number itself and names no "
        "issuer. Empty: a bare Patient ID is never a national number.",
    )
    allow_test_numbers: bool = setting(False, "Accept NHS and CHI numbers of the test range 9xx.")
    accession_authority: str = setting(
        "", "OID that issues accession numbers where the object names no issuer."
    )
    site_zone: str = setting(
        "",
        "IANA time zone of objects that do not say theirs (0008,0201). Empty: the region's.",
        example="Europe/London",
    )
    move_mb_per_s: float = setting(
        40.0,
        "Most that is copied for a move to another disk, in megabytes a second; an eighth of it while objects"
        " come in or are opened.",
        low=0.01,
        high=10_000,
    )
    retention_daily: bool = setting(
        False,
        "Put what the rules let go into the bin, once a day. Otherwise only"
        " `crosslight-node retention --apply` does.",
    )
    retention_most: int = setting(
        200,
        "Most studies that one day's run deletes: a wrong rule or clock is seen before much is gone.",
        low=1,
    )
    retention: tuple[RetentionRule, ...] = setting(
        (),
        "Each rule by which studies may go, as a table [[archive.retention]]. Without one nothing is ever"
        " deleted by itself; of several that name a study the longest counts.",
    )
    care: CareConfig = section(
        CareConfig, "Every object is read again, slowly, and compared with its digest."
    )
    object_store: ObjectStoreConfig = section(
        ObjectStoreConfig, "Objects go to an object store once they are durable on the disk."
    )

    def limits(self) -> Limits:
        """The gate's bounds."""
        return Limits(max_elements=self.max_elements, max_inflated_bytes=self.max_inflated_bytes)

    def rules(self, member: MembershipFacts | None = None, region: Region | None = None) -> RecordRules:
        """How records are made: these settings, and for those left empty what the region says.

        Args:
            member: This node as its region knows it; None: it has joined none.
            region: The region.
        """
        nationals = tuple(region.nationals) if region is not None else ()
        allotted = (member.authority,) if member is not None else ("",)
        agreed = (
            tuple(authority for authority in member.authorities if authority not in nationals)
            if member is not None
            else ()
        )
        asked = member.asked if member is not None else ()
        main = self.patient_authority or (*agreed, *asked, *allotted)[0]
        return RecordRules(
            authority=main,
            authorities=tuple(authority for authority in (*agreed, *allotted) if authority not in ("", main)),
            namespace=self.patient_namespace or (member.code if member is not None else ""),
            site_zone=self.site_zone or (region.zone if region is not None else ""),
            nationals=self.national_authorities or nationals,
            issuers=dict(self.issuers),
            bare_patient_id=self.bare_patient_id,
            allow_test_numbers=self.allow_test_numbers or (region is not None and region.allow_test_numbers),
            accession_authority=self.accession_authority,
        )
