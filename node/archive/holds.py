"""Legal holds: what is kept, whatever any rule, command or passing of time says, until somebody lifts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import EmbeddedDb, Row, Tx
from crosslight.standards.dicom.file.header import Attributes
from crosslight.standards.dicom.record.record import claims_of, patient_of
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.ids import Identifier
from crosslight.standards.national import plain_number
from crosslight.standards.problem import Conflict, NotFound
from node.archive.store import ArchiveStore

HoldKind = Literal["study", "patient", "all"]
MAX_TEXT: Final = 500
_COLUMNS = (
    "id, kind, study_uid, authority, number, reason, placed_by, placed_unix, lifted_by, lifted_why,"
    " lifted_unix"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One hold. ``lifted_unix`` is 0 while it stands."""

    id: int
    kind: HoldKind
    study_uid: str = ""
    patient: Identifier | None = None  # without an authority: the number of whoever issued it
    reason: str
    placed_by: str
    placed_unix: float
    lifted_by: str = ""
    lifted_why: str = ""
    lifted_unix: float = 0.0


class Holds:
    """The holds of one archive.

    Args:
        db, store: The archive's.
        clock: Time.
        rules: How patients' numbers are read now.
    """

    def __init__(
        self, db: EmbeddedDb, store: ArchiveStore, clock: Clock, rules: Callable[[], RecordRules]
    ) -> None:
        self._db, self._store, self._clock, self._rules = db, store, clock, rules

    async def add(
        self, by: str, reason: str, *, study_uid: str = "", patient: Identifier | None = None
    ) -> tuple[Hold, int]:
        """Hold a study, a patient's studies, or all where neither is named.

        It stands from then on. Answers how many studies a purge had begun to remove before, too.
        """
        kind: HoldKind = "study" if study_uid else "patient" if patient is not None else "all"
        authority, number = (patient.authority, patient.value) if patient is not None else ("", "")
        now = self._clock.now().timestamp()
        values = (kind, study_uid, authority, number, reason[:MAX_TEXT], by[:MAX_TEXT], now)

        def write(tx: Tx) -> tuple[Hold, int]:
            row = tx.row(
                "INSERT INTO hold (kind, study_uid, authority, number, reason, placed_by, placed_unix)"
                f" VALUES (?,?,?,?,?,?,?) RETURNING {_COLUMNS}",
                values,
            )
            assert row is not None  # noqa: S101 - RETURNING always gives a row
            placed = _hold(row)
            going = [r[0] for r in tx.rows("SELECT DISTINCT study_uid FROM bin WHERE purging = 1")]
            return placed, sum(placed in self.of_tx(tx, uid) for uid in going)

        return await self._db.write("hold", write)

    async def lift(self, number: int, by: str, why: str) -> Hold:
        """End a hold; as it stands in the list then.

        Raises:
            NotFound: there is none of that number, or it was lifted.
        """
        now = self._clock.now().timestamp()

        def write(tx: Tx) -> Hold:
            row = tx.row(
                "UPDATE hold SET lifted_by = ?, lifted_why = ?, lifted_unix = ? WHERE id = ? AND lifted_unix"
                f" = 0 RETURNING {_COLUMNS}",
                (by[:MAX_TEXT], why[:MAX_TEXT], now, number),
            )
            if row is None:
                raise NotFound(
                    f"No hold {number} stands.", todo="See: crosslight-node hold list.", where="hold"
                )
            return _hold(row)

        return await self._db.write("lift_hold", write)

    async def one(self, number: int) -> Hold:
        """A hold that stands.

        Raises:
            NotFound: there is none of that number, or it was lifted.
        """
        for hold in await self.all():
            if hold.id == number:
                return hold
        raise NotFound(f"No hold {number} stands.", todo="See: crosslight-node hold list.", where="hold")

    async def all(self, *, lifted: bool = False) -> list[Hold]:
        """Holds that stand, or those that were lifted too; the oldest first."""
        where = "" if lifted else " WHERE lifted_unix = 0"
        rows = await self._db.read(
            "holds", lambda tx: tx.rows(f"SELECT {_COLUMNS} FROM hold{where} ORDER BY id")
        )
        return [_hold(row) for row in rows]

    async def of(self, study_uid: str) -> list[Hold]:
        """The holds by which a study is kept."""
        return await self._db.read("holds_of", lambda tx: self.of_tx(tx, study_uid))

    def of_tx(self, tx: Tx, study_uid: str) -> list[Hold]:
        """As :meth:`of`: whatever of the study is here, in the bin or hidden too."""
        rows = tx.rows(
            f"SELECT {_COLUMNS} FROM hold WHERE lifted_unix = 0 AND (kind IN ('all', 'patient')"
            " OR study_uid = ?) ORDER BY id",
            (study_uid,),
        )
        holds = [_hold(row) for row in rows]
        if not any(hold.kind == "patient" for hold in holds):
            return holds
        numbers = list(self._numbers_tx(tx, study_uid))
        return [
            hold
            for hold in holds
            if hold.patient is None or any(_is_of(hold.patient, number) for number in numbers)
        ]

    def refuse_tx(self, tx: Tx, study_uid: str) -> None:
        """Let a study go only where no hold keeps it.

        Raises:
            Conflict: one does.
        """
        if holds := self.of_tx(tx, study_uid):
            raise held_by(holds[0])

    def _numbers_tx(self, tx: Tx, study_uid: str) -> Iterator[Identifier]:
        """Every number of every patient that any header of the study names."""
        ids = [
            row[0]
            for row in tx.rows(
                "SELECT DISTINCT study_variant FROM instance WHERE study_uid = ?", (study_uid,)
            )
        ]
        rules = self._rules()
        for attributes in self._store.variants_tx(tx, ids).values():
            yield from _numbers(attributes, rules, study_uid)


def held_by(hold: Hold) -> Conflict:
    """The refusal of whoever would remove what is held."""
    return Conflict(
        "This study is under a legal hold: it is not removed.",
        why=f"Hold {hold.id}, of {'all studies' if hold.kind == 'all' else f'the {hold.kind}'}.",
        todo=f"See crosslight-node hold list; whoever may, lifts it: crosslight-node hold remove {hold.id}.",
        where="StudyInstanceUID",
    )


def _numbers(attributes: Attributes, rules: RecordRules, study_uid: str) -> Iterator[Identifier]:
    for claim in claims_of(attributes, rules):
        yield Identifier(claim.value, claim.authority, claim.namespace)
    patient = patient_of(attributes, rules, study_uid)
    yield from (patient.local, *patient.others)


def _is_of(wanted: Identifier, number: Identifier) -> bool:
    """Whether they may be one patient's: in doubt about who issued a number it is kept."""
    if _plain(wanted.value) != _plain(number.value):
        return False
    return not wanted.authority or not number.authority or wanted.authority == number.authority


def _plain(value: str) -> str:
    return plain if (plain := plain_number(value)).isdecimal() else value.strip()


def _hold(row: Row) -> Hold:
    return Hold(
        id=row[0],
        kind=row[1],
        study_uid=row[2],
        patient=Identifier(row[4], row[3]) if row[1] == "patient" else None,
        reason=row[5],
        placed_by=row[6],
        placed_unix=row[7],
        lifted_by=row[8],
        lifted_why=row[9],
        lifted_unix=row[10],
    )
