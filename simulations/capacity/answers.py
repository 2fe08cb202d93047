"""What a forecast answers, as values; ``report`` writes them down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Of one kind of question in one hour, seconds; infinite where it does not come through."""

    p50_s: float
    p95_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HourAnswer:
    """The busiest hour of a year.

    Args:
        year: From now.
        exams_per_s: Made in the region.
        finds_per_s: Searches at the registry, those of neighbours included.
        opens_per_s: Studies opened by people of another member.
        busy: Part of the time that the registry's processes work.
        find: From a member to the list of a patient's studies.
        first_image: From the click to the first picture of another member's study.
    """

    year: int
    exams_per_s: float
    finds_per_s: float
    opens_per_s: float
    busy: float
    find: Latency
    first_image: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberNeed:
    """What one member must have by the end of one year.

    Args:
        year: From now, from 1.
        cores: Its node's, so that they work less than half of the busiest hour.
        database_gb: Its node's own database, gigabytes, without the images.
        images_tb: Images made since the beginning, terabytes: where the node keeps them and no PACS does.
        line_mbit_s: What its line should carry, so that images take no more than half of it.
    """

    year: int
    cores: int
    database_gb: float
    images_tb: float
    line_mbit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HospitalAnswer:
    """How one place of a member fares in the last year: its own line comes before the member's."""

    member: str
    name: str
    exams_per_year: float
    find: Latency
    first_image: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAnswer:
    """What one member needs, and how it fares in the last year.

    Args:
        code: Organisation code. name: In full.
        road_rtt_s: Round trip to the registry, seconds.
        ways: Independent ways to the registry (edge connectivity).
        line_mbit_s: What the narrowest line on its way carries.
        line_busy: Part of it that its images take in the busiest hour of the last year.
        cut: The fewest lines whose loss cuts it off.
        find: Its searches. first_image: Its first pictures.
        needs: What it must have, year by year.
        backfill_hours: To publish the studies that are there before; 0 where there are none.
    """

    code: str
    name: str
    road_rtt_s: float
    ways: int
    line_mbit_s: float
    line_busy: float
    cut: tuple[str, ...]
    find: Latency
    first_image: Latency
    needs: tuple[MemberNeed, ...]
    backfill_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class YearPurchase:
    """What the registry needs at the end of one year.

    Args:
        year: From now, from 1.
        studies: In the index.
        processes: Registry processes, so that each works less than 60 % of the busiest hour.
        cores: For them and the database, so that they work less than half of the busiest hour.
        index_gb: Index with its growth by updates, gigabytes. audit_gb: Audit since the beginning.
        log_gb: Write-ahead log.
        line_mbit_s: What its line should carry, so that images that pass take no more than half of it.
    """

    year: int
    studies: float
    processes: int
    cores: int
    index_gb: float
    audit_gb: float
    log_gb: float
    line_mbit_s: float

    @property
    def disk_gb(self) -> float:
        """All of it."""
        return self.index_gb + self.audit_gb + self.log_gb


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageAnswer:
    """What happens when a line or a place is lost for some hours, on a working day.

    Args:
        name: Of the line or place. hours: How long.
        isolates: Codes of members without a way to the registry.
        waiting: Studies that wait at their nodes to be published when it ends.
        catch_up_s: Until all are published then, seconds.
        partial_finds: Searches elsewhere meanwhile whose answers say that members are missing.
        alone_finds: Searches of those cut off: answered from their own archive only.
        expected_hours_per_year: How long it is lost in a year, by its failures and planned work.
    """

    name: str
    hours: float
    isolates: tuple[str, ...]
    waiting: float
    catch_up_s: float
    partial_finds: float
    alone_finds: float
    expected_hours_per_year: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAnswer:
    """A member whose node is set up anew elsewhere: everything that it holds is published again.

    Args:
        member: Code. studies: How many. hours: How long its node takes.
        busy: Part of the registry's time that it takes meanwhile.
        find: Searches of the region in the busiest hour meanwhile.
    """

    member: str
    studies: float
    hours: float
    busy: float
    find: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All that one run answers."""

    region: str
    years: int
    seed: int
    hours: tuple[HourAnswer, ...]  # the busiest hour of each year, from year 0
    members: tuple[MemberAnswer, ...]
    purchases: tuple[YearPurchase, ...]
    outages: tuple[OutageAnswer, ...]
    moves: tuple[MoveAnswer, ...]
    hospitals: tuple[HospitalAnswer, ...]
    backfill_hours: float  # of the whole region; 0 where nothing is migrated
    backfill_bound: str  # what bounds it, in words
    backfill_find: Latency | None  # searches in the busiest hour meanwhile; None where nothing is migrated
