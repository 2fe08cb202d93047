"""What is agreed to of what a caller proposes (PS3.8 9.3.3, PS3.7 D.3.3). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from crosslight.standards.dicom.upper_layer.associate import (
    ABSTRACT_SYNTAX_UNKNOWN,
    ACCEPTED,
    NO_REASON,
    TRANSFER_SYNTAXES_UNKNOWN,
    AnsweredContext,
    AssociateAccept,
    AssociateRequest,
    Roles,
    UserInformation,
)
from node.dimse.exchange import Context, SupportedClass

#: What is agreed to of a SOP class's application information (PS3.7 D.3.3.5); None: nothing is said.
Extended = Callable[[str, bytes], bytes | None]

_SCU_ONLY = Roles(scu=True, scp=False)  # a caller that says nothing (PS3.7 D.3.3.4)


@dataclass(frozen=True, slots=True)
class Agreed:
    """An acceptance, and the contexts of it by id."""

    accept: AssociateAccept
    contexts: Mapping[int, Context]


def merged(sop_classes: Iterable[SupportedClass]) -> dict[str, SupportedClass]:
    """The services' SOP classes; one of several services has the transfer syntaxes of all."""
    found: dict[str, SupportedClass] = {}
    for supported in sop_classes:
        known = found.setdefault(supported.sop_class_uid, supported)
        if known is not supported:
            syntaxes = tuple(dict.fromkeys((*known.transfer_syntaxes, *supported.transfer_syntaxes)))
            found[supported.sop_class_uid] = SupportedClass(
                supported.sop_class_uid, syntaxes, known.asks or supported.asks
            )
    return found


def agree(
    request: AssociateRequest, supported: Mapping[str, SupportedClass], longest_pdu: int, extended: Extended
) -> Agreed:
    """AnsweredContext a request: each context with the first of our transfer syntaxes that it proposes.

    Args:
        request: What is proposed.
        supported: What we answer for, by SOP class.
        longest_pdu: What we take, in bytes.
        extended: What is said to application information.
    """
    asked = request.user
    proposed = {proposal.sop_class_uid for proposal in request.contexts}
    told = {
        uid: answer
        for uid, info in asked.extended.items()
        if uid in proposed and (answer := extended(uid, info)) is not None
    }
    answers, contexts, roles = list[AnsweredContext](), dict[int, Context](), dict[str, Roles]()
    for proposal in sorted(request.contexts, key=lambda one: one.id):
        uid, syntaxes = proposal.sop_class_uid, proposal.transfer_syntaxes
        known = supported.get(uid)
        offered = known.transfer_syntaxes if known is not None else ()
        syntax = next((one for one in offered if one in syntaxes), syntaxes[0])
        result = ACCEPTED
        if known is None:
            result = ABSTRACT_SYNTAX_UNKNOWN
        elif syntax not in offered:
            result = TRANSFER_SYNTAXES_UNKNOWN
        else:
            role = asked.roles.get(uid, _SCU_ONLY) if known.asks else _SCU_ONLY
            if not (role.scu or role.scp):
                result = NO_REASON
            else:
                contexts[proposal.id] = Context(proposal.id, uid, syntax, role.scp, told.get(uid, b""))
                if known.asks and uid in asked.roles:
                    roles[uid] = role
        answers.append(AnsweredContext(proposal.id, result, syntax))
    user = UserInformation(
        longest_pdu=longest_pdu,
        roles=roles,
        extended=told,
        window=None if asked.window in (None, (1, 1)) else (1, 1),  # one at a time (PS3.7 D.3.3.3)
    )
    accept = AssociateAccept(
        called=request.called, calling=request.calling, contexts=tuple(answers), user=user
    )
    return Agreed(accept, contexts)
