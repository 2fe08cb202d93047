"""What a search answer says of its own completeness: issues from coverage and disputes (D3, D19)."""

from __future__ import annotations

from datetime import datetime

from crosslight.standards.fhir.outcome import Issue
from crosslight.standards.fhir.terms import COMPLETENESS
from crosslight.standards.fhir.wire import instant
from registry.ask.absence import beyond, proves_absence, reason, unlisted
from registry.ask.coverage import Gap, MemberCoverage
from registry.ask.question import Answer
from registry.identity.model import DisputedNotice


def _at(moment: datetime | None, word: str) -> str:
    return f" {word} {instant(moment)}" if moment is not None else ""


def _sentences(member: MemberCoverage) -> list[str]:
    sentences = []
    if member.suspended:
        sentences.append(
            f"suspended{_at(member.since, 'since')}: its studies cannot be opened, newer ones are not listed."
        )
    if not member.reachable and member.never_linked:
        sentences.append("unreachable: it has never linked, and nothing of it can be opened.")
    elif not member.reachable:
        sentences.append(
            f"unreachable{_at(member.since, 'since')}: its studies stay listed and cannot be opened now."
        )
    elif member.clock_wrong:
        off = f"{member.skew_ms / 1000:+.0f} s"
        sentences.append(
            f"clock: its clock is off by {off}; its studies stay listed and cannot be opened until it is"
            " right."
        )
    if member.list_state == "behind":
        sentences.append(_behind(member))
    elif member.list_state == "filling":
        since = f", back to {member.indexed_from} so far" if member.indexed_from else ""
        sentences.append(f"filling: still being indexed{since}; studies may be missing.")
    elif member.list_state == "unknown":
        sentences.append("unknown: how complete its list is, is not known; studies may be missing.")
    return sentences


def _behind(member: MemberCoverage) -> str:
    """Whose studies are missing, as far as it is known."""
    waiting = f", {member.waiting} waiting" if member.waiting else ""
    sentences: dict[Gap, str] = {
        "patient waits": "new or changed studies of this patient are on their way and not listed yet",
        "anybody waits": f"listed{_at(member.as_of, 'as of')}{waiting}; newer studies may be missing",
        "patient refused": "images of this patient were refused, and are not listed until its operator acts",
    }
    return f"behind: {'; '.join(sentences[gap] for gap in member.gaps)}."


def _member_issues(member: MemberCoverage, notice: DisputedNotice | None, number_held: bool) -> list[Issue]:
    name, issues = f"{member.name} ({member.code})", []
    sentences = _sentences(member)
    if sentences:
        lacks = member.list_state != "live" or member.suspended
        machine = f"member={member.code} state={'+'.join(member.states)}"
        issues.append(
            Issue(
                severity="warning",
                code="incomplete" if lacks else "transient",
                text=f"{name} is " + " It is ".join(sentences),
                diagnostics=machine + (f" since={instant(member.since)}" if member.since else ""),
            )
        )
    if notice is not None and not notice.shown:
        issues.append(_disputed(notice, number_held=number_held))
    elif notice is not None or member.identity_doubt:
        # shown: under its own local number, or to those who may see it
        text = f"The record at {name} in this answer is disputed or in doubt: compare name and date of birth."
        issues.append(_conflict(member.code, text))
    return issues


def _disputed(notice: DisputedNotice, *, number_held: bool) -> Issue:
    """A record that is not shown; ``number_held``: beside somebody who holds the number."""
    name = f"{notice.member_name} ({notice.member_code})"
    if not notice.claims:
        text = (
            f"Studies at {name} under this patient's local number are in doubt: their headers say another"
            " person."
        )
    elif number_held:
        text = f"Another record, at {name}, claims this number: compare name and date of birth."
    else:
        text = f"There is a disputed record with this number at {name}."
    return _conflict(
        notice.member_code, f"{text} {'It is' if notice.claims else 'They are'} not part of this answer."
    )


def _conflict(code: str, text: str) -> Issue:
    return Issue(
        severity="warning", code="conflict", text=text, diagnostics=f"member={code} identity=disputed"
    )


def proven(answer: Answer, *, n_found: int | None, closed: bool = True) -> bool | None:
    """Whether an empty list says that there is nothing.

    None where it is not empty, or no list of what a patient has.

    ``closed``: whether the criteria leave nothing open that could be written in another way.
    """
    return closed and proves_absence(answer) if n_found == 0 else None


def completeness(answer: Answer, *, proven: bool | None = None) -> list[Issue]:
    """One warning for each way in which a member's part is less than well; one information when all is.

    ``proven`` adds what an empty list says: see :func:`proven`.
    """
    coverage, disputed = answer.coverage, answer.disputed
    notices = {notice.member: notice for notice in disputed}
    issues = [
        i
        for member in coverage.members
        for i in _member_issues(member, notices.get(member.member), answer.held)
    ]
    known = {member.member for member in coverage.members}
    issues += [_disputed(d, number_held=answer.held) for d in disputed if d.member not in known]
    if proven is None and (text := unlisted(answer)):
        issues.append(
            Issue(severity="warning", code="incomplete", text=f"{text} This list may not be complete.")
        )
    if not issues:
        text = f"All {len(coverage.members)} members are live and their lists up to date."
        issues.append(Issue(severity="information", code="informational", text=text))
    if proven is not None:
        issues.append(Issue(severity="information", code="informational", text=_nothing(answer, proven)))
    return issues


def _nothing(answer: Answer, proven: bool) -> str:
    if proven:
        sentence = "Nothing matches, at any member: every list is current and counted."
        return f"{sentence} {beyond(answer.coverage.sources)}".rstrip()
    return (
        f"Nothing that matches is listed; this does not prove that there is none. {reason(answer)}".rstrip()
    )


def completeness_tags(answer: Answer, *, unproven: bool) -> list[dict[str, str]]:
    """Bundle.meta.tag, for clients that drop the outcome: what makes this answer less than it looks."""
    doubtful = answer.coverage.degraded or bool(answer.disputed) or answer.unread > 0
    tags = [("degraded", "A member's part may be missing")] if doubtful else []
    if answer.naming.misread:
        tags.append(("not-understood", "A part of the search was not understood"))
    elif unproven:
        tags.append(("unproven", "This empty list does not prove that there is none"))
    return [{"system": COMPLETENESS, "code": code, "display": display} for code, display in tags]
