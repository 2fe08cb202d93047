"""Association requests and acceptances, written and read again, by us and by pynetdicom; and garbage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom import build_context, pdu_primitives
from pynetdicom import pdu as theirs

from crosslight.standards.dicom.upper_layer import pdu as pdus
from crosslight.standards.dicom.upper_layer.associate import (
    ABSTRACT_SYNTAX_UNKNOWN,
    ACCEPTED,
    APPLICATION_CONTEXT,
    MAX_CONTEXTS,
    NO_REASON,
    TRANSFER_SYNTAXES_UNKNOWN,
    AnsweredContext,
    AssociateAccept,
    AssociateRequest,
    ProposedContext,
    Roles,
    UserInformation,
)
from crosslight.standards.problem import Malformed
from node.dimse.exchange import Context, SupportedClass
from node.dimse.negotiation import agree, merged

CT, MR, FIND = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"

UIDS = st.integers(0, 10**12).map(lambda number: f"1.2.{number}")
TITLES = st.text("AZ09_", min_size=1, max_size=16)
USERS = st.builds(
    UserInformation,
    longest_pdu=st.integers(0, 2**32 - 1),
    implementation_class_uid=UIDS,
    implementation_version=st.sampled_from(["", "X_1"]),
    roles=st.dictionaries(UIDS, st.builds(Roles, scu=st.booleans(), scp=st.booleans()), max_size=3),
    extended=st.dictionaries(UIDS, st.binary(max_size=6), max_size=3),
    window=st.none() | st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
)
NUMBERS = st.integers(0, MAX_CONTEXTS - 1).map(lambda n: 2 * n + 1)
REQUESTS = st.builds(
    AssociateRequest,
    called=TITLES,
    calling=TITLES,
    contexts=st.lists(
        st.builds(ProposedContext, NUMBERS, UIDS, st.lists(UIDS, min_size=1, max_size=4).map(tuple)),
        max_size=6,
        unique_by=lambda context: context.id,
    ).map(tuple),
    user=USERS,
)
ACCEPTS = st.builds(
    AssociateAccept,
    called=TITLES,
    calling=TITLES,
    contexts=st.lists(
        st.builds(AnsweredContext, NUMBERS, st.sampled_from([0, 1, 2, 3, 4]), UIDS), max_size=6
    ).map(tuple),
    user=USERS,
)
A_REQUEST = AssociateRequest(
    called="RTK",
    calling="CT1",
    contexts=(
        ProposedContext(1, CT, (JPEG, EXPLICIT, IMPLICIT)),
        ProposedContext(3, FIND, (IMPLICIT,)),
    ),
    user=UserInformation(
        longest_pdu=16384, roles={CT: Roles(scu=True, scp=True)}, extended={FIND: b"\1\1"}, window=(3, 0)
    ),
)


@settings(max_examples=50)
@given(REQUESTS)
def test_a_request_is_read_as_it_was_written(request: AssociateRequest) -> None:
    assert AssociateRequest.parse(request.pdu()) == request


@settings(max_examples=50)
@given(ACCEPTS)
def test_an_acceptance_is_read_as_it_was_written(accept: AssociateAccept) -> None:
    assert AssociateAccept.parse(accept.pdu()) == accept


@given(st.integers(0, 400))
def test_what_is_cut_off_is_refused_or_read_and_nothing_else(cut: int) -> None:
    """Also where the head says that this is all."""
    whole = A_REQUEST.pdu()[:cut]
    with pytest.raises(Malformed):
        AssociateRequest.parse(whole if cut < len(A_REQUEST.pdu()) else whole + b"\0")
    if cut >= 6:
        said = whole[:2] + struct.pack(">I", cut - 6) + whole[6:]
        try:
            AssociateRequest.parse(said)
        except Malformed:
            pass


@given(st.binary(max_size=200), st.integers(0, 300))
@example(b"\x20\0\0\4\1\0\0\0", 0)  # a context without syntaxes
@example(b"\x50\0\0\4\x54\0\0\0", 0)  # a role of nothing
@example(b"\x50\0\0\6\x56\0\0\2\xff\xff", 0)
def test_garbage_among_the_items_is_refused_or_passed_over_and_nothing_else(junk: bytes, at: int) -> None:
    body = A_REQUEST.pdu()[6:]
    at = 68 + at % (len(body) - 67)
    body = body[:at] + junk + body[at:]
    for kind, parse in (
        (pdus.ASSOCIATE_RQ, AssociateRequest.parse),
        (pdus.ASSOCIATE_AC, AssociateAccept.parse),
    ):
        try:
            found = parse(struct.pack(">BxI", kind, len(body)) + body)
        except Malformed:
            continue
        assert type(found).parse(found.pdu()) == found, "whatever is read can be written"


def test_items_that_are_not_known_are_passed_over_and_padding_is_none() -> None:
    user = (
        b"\x58\0\0\6\1\0\0\2ab" + b"\x51\0\0\4\0\0\x40\0" + b"\x77\0\0\1x"
    )  # an identity, a length, unknown
    context = b"\x20\0\0\x1b\2\xff\xff\xff" + b"\x30\0\0\6" + b"1.2.3\0" + b"\x40\0\0\x09" + b"1.2.4.5\0 "
    items = b"\x99\0\0\2??" + context + b"\x50\0" + struct.pack(">H", len(user)) + user
    body = struct.pack(">HH16s16s32x", 1, 0, b"RTK\0", b" CT1") + items
    found = AssociateRequest.parse(struct.pack(">BxI", 1, len(body)) + body)
    assert (found.called, found.calling) == ("RTK", "CT1")
    assert found.contexts == (ProposedContext(2, "1.2.3", ("1.2.4.5",)),)
    assert found.user.longest_pdu == 16384


def test_contexts_of_one_number_are_refused() -> None:
    twice = AssociateRequest(called="A", calling="B", contexts=(ProposedContext(1, CT, (IMPLICIT,)),) * 2)
    with pytest.raises(Malformed):
        AssociateRequest.parse(twice.pdu())


def test_pynetdicom_reads_our_request() -> None:
    read = theirs.A_ASSOCIATE_RQ()
    read.decode(A_REQUEST.pdu())
    said = read.to_primitive()
    assert (said.called_ae_title, said.calling_ae_title) == ("RTK", "CT1")
    assert said.application_context_name == APPLICATION_CONTEXT
    contexts = said.presentation_context_definition_list
    assert [(one.context_id, one.abstract_syntax, one.transfer_syntax) for one in contexts] == [
        (1, CT, [JPEG, EXPLICIT, IMPLICIT]),
        (3, FIND, [IMPLICIT]),
    ]
    assert said.maximum_length_received == 16384
    by_kind = {type(item).__name__: item for item in said.user_information}
    assert by_kind["SCP_SCU_RoleSelectionNegotiation"].scp_role
    assert by_kind["SOPClassExtendedNegotiation"].service_class_application_information == b"\1\1"
    assert by_kind["AsynchronousOperationsWindowNegotiation"].maximum_number_operations_invoked == 3


def test_we_read_pynetdicoms_request_with_a_users_identity() -> None:
    primitive = pdu_primitives.A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = "CT1", "RTK"
    context = build_context(CT, [EXPLICIT, IMPLICIT])
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    longest, implementation = (
        pdu_primitives.MaximumLengthNotification(),
        pdu_primitives.ImplementationClassUIDNotification(),
    )
    longest.maximum_length_received, implementation.implementation_class_uid = 65536, UID("1.2.3")
    role = pdu_primitives.SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = UID(CT), True, False
    identity = pdu_primitives.UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.positive_response_requested = 1, b"me", True
    primitive.user_information = [longest, implementation, role, identity]
    found = AssociateRequest.parse(bytes(theirs.A_ASSOCIATE_RQ(primitive).encode()))
    assert found == AssociateRequest(
        called="RTK",
        calling="CT1",
        contexts=(ProposedContext(1, CT, (EXPLICIT, IMPLICIT)),),
        user=UserInformation(
            longest_pdu=65536,
            implementation_class_uid="1.2.3",
            implementation_version="",
            roles={CT: Roles(scu=True, scp=False)},
        ),
    )


def test_pynetdicom_reads_the_short_ones() -> None:
    rejected, aborted = theirs.A_ASSOCIATE_RJ(), theirs.A_ABORT_RQ()
    rejected.decode(pdus.LIMIT_EXCEEDED.pdu())
    assert (rejected.result, rejected.source, rejected.reason_diagnostic) == (2, 3, 2)
    assert pdus.Rejection.parse(pdus.CALLED_UNKNOWN.pdu()) == pdus.CALLED_UNKNOWN
    assert str(pdus.LIMIT_EXCEEDED) == "local limit exceeded (for now)"
    aborted.decode(pdus.abort(pdus.BY_PROVIDER, pdus.UNEXPECTED_PDU))
    assert (aborted.source, aborted.reason_diagnostic) == (2, 2)
    for made, kind in (
        (pdus.RELEASE_REQUEST, theirs.A_RELEASE_RQ),
        (pdus.RELEASE_RESPONSE, theirs.A_RELEASE_RP),
    ):
        assert made == bytes(kind().encode())
    with pytest.raises(Malformed):
        pdus.Rejection.parse(b"\3\0\0\0\0\0")


# --- what is agreed to ----------------------------------------------------------------------------------

OURS = merged(
    [
        SupportedClass(CT, (EXPLICIT, IMPLICIT)),
        SupportedClass(FIND, (EXPLICIT, IMPLICIT)),
        SupportedClass(CT, (JPEG,), asks=True),
    ]
)


def _agreed(*contexts: ProposedContext, **user: object) -> tuple[AssociateAccept, dict[int, Context]]:
    asked = AssociateRequest(
        called="RTK",
        calling="CT1",
        contexts=contexts,
        user=UserInformation(**user),  # type: ignore[arg-type]
    )
    agreed = agree(asked, OURS, 1 << 17, lambda uid, info: info[:1] if uid == FIND else None)
    return agreed.accept, dict(agreed.contexts)


def test_each_context_has_its_result_and_our_preference() -> None:
    accept, contexts = _agreed(
        ProposedContext(5, CT, (JPEG, IMPLICIT, EXPLICIT)),
        ProposedContext(1, CT, (JPEG,)),
        ProposedContext(3, MR, (IMPLICIT,)),
        ProposedContext(7, FIND, (JPEG,)),
    )
    assert accept.contexts == (
        AnsweredContext(1, ACCEPTED, JPEG),
        AnsweredContext(3, ABSTRACT_SYNTAX_UNKNOWN, IMPLICIT),
        AnsweredContext(5, ACCEPTED, EXPLICIT),
        AnsweredContext(7, TRANSFER_SYNTAXES_UNKNOWN, JPEG),
    )
    assert contexts == {1: Context(1, CT, JPEG), 5: Context(5, CT, EXPLICIT)}
    assert (accept.user.longest_pdu, accept.user.window) == (1 << 17, None)


@pytest.mark.parametrize(
    ("role", "result", "we_may_ask"),
    [
        (None, ACCEPTED, False),
        (Roles(scu=True, scp=False), ACCEPTED, False),
        (Roles(scu=True, scp=True), ACCEPTED, True),
        (Roles(scu=False, scp=True), ACCEPTED, True),
        (Roles(scu=False, scp=False), NO_REASON, None),
    ],
)
def test_roles_are_agreed_to_where_we_ask(role: Roles | None, result: int, we_may_ask: bool | None) -> None:
    roles = {CT: role} if role is not None else {}
    accept, contexts = _agreed(ProposedContext(1, CT, (IMPLICIT,)), roles=roles)
    assert accept.contexts[0].result == result
    assert [context.we_may_ask for context in contexts.values()] == (
        [] if we_may_ask is None else [we_may_ask]
    )
    assert accept.user.roles == (roles if result == ACCEPTED else {})


def test_a_role_where_we_ask_nothing_is_not_answered() -> None:
    accept, contexts = _agreed(
        ProposedContext(1, FIND, (IMPLICIT,)), roles={FIND: Roles(scu=False, scp=True)}
    )
    assert (accept.user.roles, contexts) == ({}, {1: Context(1, FIND, IMPLICIT)})


def test_further_negotiation() -> None:
    accept, contexts = _agreed(
        ProposedContext(1, FIND, (IMPLICIT,)),
        extended={FIND: b"\1\1", CT: b"x"},  # of a class that is not proposed
        window=(0, 5),
    )
    assert accept.user.extended == {FIND: b"\1"}
    assert contexts[1].agreed == b"\1"
    assert accept.user.window == (1, 1), "one operation at a time"
