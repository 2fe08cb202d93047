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
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError
from node.dimse.callers import Calling

Done = Literal["stored", "duplicate", "refused"]
log = get_logger("dimse")


@dataclass(slots=True)
class _Act:
    """One audited act of an association, and what was done in it."""

    audited: Act
    done: Counter[Done] = field(default_factory=Counter)

    def settle(self) -> None:
        """Commit its outcome."""
        stored, duplicate, refused = (self.done[kind] for kind in get_args(Done))
        kind: OutcomeKind = "ok" if not refused else "partial" if stored or duplicate else "refused"
        if not self.audited.entry.decision.permit:
            kind = "denied"
        self.audited.done(kind, stored=stored, duplicate=duplicate, refused=refused)
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
        act = self._acts.get((action, study_uid))
        if act is None:
            correlation = self.caller.correlation
            caller = (
                replace(self.caller, correlation=f"{correlation}-{len(self._acts)}")
                if study_uid
                else self.caller
            )
            act = self._acts[action, study_uid] = self._accounts.begin(
                caller, Decision(True, self._rule), action, study_uid
            )
        act.done[done] += times

    def refuse(self, action: Action) -> None:
        """Note that the caller may not do this: one act of the association, whose outcome says how often.

        The act is committed before this returns, or logged where it cannot be: the refusal stands.
        """
        act = self._acts.get((action, ""))
        if act is None:
            decision = decide(self.caller.principal, "dimse", action)
            try:
                act = self._acts[action, ""] = self._accounts.begin(self.caller, decision, action, "")
            except StorageError as error:
                log.error("a refusal could not be audited", error=type(error).__name__)
                return
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
        patients: Callable[[str], tuple[Identifier, ...]],
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

    def begin(self, caller: Caller, decision: Decision, action: Action, study_uid: str) -> _Act:
        """Commit an act's first entry."""
        about = About(patients=self._patients(study_uid), studies=(study_uid,)) if study_uid else About()
        act = self._audit.act(caller, "dimse", action, about, decision=decision)
        act.begin_sync()
        return _Act(act)

    def count(self, outcome: str) -> None:
        """Count an object by what became of it, for the metrics."""
        with self._lock:
            self.objects[outcome] += 1
