"""What an association did, in the audit: an act for each study that it was about (D20).

Each is begun before the first answer.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from crosslight.runtime.audit import About, Act, AuditLog, OutcomeKind
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Ids
from crosslight.runtime.log import get_logger
from crosslight.runtime.refusals import Noted, noted_nowhere
from crosslight.standards.access import Action, Decision, decide
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError
from node.dimse.callers import Calling

Done = Literal["stored", "duplicate", "refused", "failed"]
#: Whose a study is, by its UID and by attributes of it that are on their way, {} for none.
PatientsOf = Callable[[str, Attributes], tuple[Identifier, ...]]
log = get_logger("dimse")


@dataclass(slots=True)
class _Act:
    """One audited act of an association, and what was done in it."""

    audited: Act
    done: Counter[Done] = field(default_factory=Counter)

    def settle(self) -> None:
        """Commit its outcome."""
        try:
            self.audited.begun_sync()
        except StorageError as error:  # nothing was answered as done
            log.error("an act could not be audited", error=type(error).__name__)
            return
        stored, duplicate, refused, failed = (self.done[kind] for kind in get_args(Done))
        kind: OutcomeKind = "refused" if refused else "failed" if failed else "ok"
        if kind != "ok" and (stored or duplicate):
            kind = "partial"
        if not self.audited.entry.decision.permit:
            kind = "denied"
        self.audited.done(kind, stored=stored, duplicate=duplicate, refused=refused, failed=failed)
        self.audited.end_sync()


class Account:
    """Of one association: who called, and its acts."""

    def __init__(self, accounts: Accounts, caller: Caller, calling: Calling) -> None:
        self.caller, self.calling = caller, calling
        self._accounts, self._rule = accounts, calling.rule
        self._acts: dict[tuple[Action, str], _Act] = {}

    def note(self, action: Action, study_uid: str, done: Done, times: int = 1) -> None:
        """Count something done about a study ('' = none that is known).

        The act is committed before this returns.

        Raises:
            StorageError: when it cannot be committed: then nothing may be answered as done.
        """
        self.begin(action, study_uid)
        act = self._acts[action, study_uid]
        try:
            act.audited.begun_sync()
        except StorageError:
            del self._acts[action, study_uid]  # the next one tries again
            raise
        act.done[done] += times

    def begin(self, action: Action, study_uid: str, study: Attributes | None = None) -> None:
        """Have the act about a study committed, while what is done is made durable; :meth:`note` waits.

        Args:
            action, study_uid: As of :meth:`note`.
            study: Attributes of the study, where nothing of it may be held yet.

        Raises:
            StorageError: it cannot be: then nothing may be done.
        """
        if (action, study_uid) in self._acts:
            return
        correlation = self.caller.correlation
        caller = (
            replace(self.caller, correlation=f"{correlation}-{len(self._acts)}") if study_uid else self.caller
        )
        self._acts[action, study_uid] = self._accounts.begin(
            caller, Decision(True, self._rule), action, study_uid, study or {}
        )

    def failed(self, action: Action, study_uid: str) -> None:
        """Count what came to nothing by our fault, where an act was begun for it."""
        if (act := self._acts.get((action, study_uid))) is not None:
            act.done["failed"] += 1

    def refuse(self, action: Action) -> None:
        """Note that the caller may not do this: one act of the association, whose outcome says how often.

        The act is committed before this returns, or logged where it cannot be: the refusal stands.
        """
        act = self._acts.get((action, ""))
        if act is None:
            decision = decide(self.caller.principal, "dimse", action)
            try:
                act = self._accounts.begin(self.caller, decision, action, "", {})
                act.audited.begun_sync()
            except StorageError as error:
                log.error("a refusal could not be audited", error=type(error).__name__)
                return
            self._acts[action, ""] = act
        act.done["refused"] += 1

    def count(self, outcome: str) -> None:
        """Count an object by what became of it, for the metrics."""
        self._accounts.count(outcome)

    def settle(self) -> None:
        """The association is over: the outcome of each act."""
        acts, self._acts = list(self._acts.values()), {}
        for act in acts:
            act.settle()


class Accounts:
    """Opens and settles accounts of one node.

    Args:
        audit: The node's audit log.
        ids: For correlation ids.
        patients: Whose a study is.
        noted: Told of callers that may not call.
    """

    def __init__(
        self,
        audit: AuditLog,
        ids: Ids,
        patients: PatientsOf,
        noted: Noted = noted_nowhere,
    ) -> None:
        self._audit, self._ids, self._patients, self.noted = audit, ids, patients, noted
        self._lock = threading.Lock()
        #: Objects by outcome, for metrics.
        self.objects: Counter[str] = Counter()

    def open(self, calling: Calling) -> Account:
        """For an association that begins."""
        return Account(self, self._caller(calling), calling)

    def _caller(self, calling: Calling) -> Caller:
        return Caller(principal=calling.principal, correlation=self._ids.uuid4().hex, peer=calling.address)

    def deny(self, calling: Calling) -> None:
        """Note that a caller was refused: a stranger, who writes nothing of their own."""
        self.noted("dimse", calling.rule, calling.address, calling.principal.name)

    def begin(
        self, caller: Caller, decision: Decision, action: Action, study_uid: str, study: Attributes
    ) -> _Act:
        """Have an act's first entry committed."""
        about = (
            About(patients=self._patients(study_uid, study), studies=(study_uid,)) if study_uid else About()
        )
        act = self._audit.act(caller, "dimse", action, about, decision=decision)
        act.begin_beside()
        return _Act(act)

    def count(self, outcome: str) -> None:
        """Count an object by what became of it, for the metrics."""
        with self._lock:
            self.objects[outcome] += 1
