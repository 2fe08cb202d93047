"""The signed directory, presence, and live connections, as values."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from members_clock import NOW, FakeClock

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.tls import pem_blocks
from crosslight.standards.access import Grants
from crosslight.standards.directory import DirectoryDocument, DirectorySystem
from crosslight.standards.ids import MemberId, Oid
from crosslight.standards.membership import (
    JoinReply,
    MembershipFacts,
    RegistryAddresses,
)
from crosslight.standards.problem import (
    ConfigError,
    Malformed,
    Unauthenticated,
)
from crosslight.standards.region import Region
from node.membership.directory import check_fresh, read_directory
from node.membership.join import new_request
from node.membership.standing import age_of
from node.membership.state import RegionState, write_membership
from registry.keys import TokenKeys
from registry.members.connections import LiveConnections
from registry.members.credential_store import CredentialFacts
from registry.members.directory import directory_document, sign_directory
from registry.members.model import Member
from registry.members.presence import PresenceBoard, PresenceRow, Report

REGION = Region(
    name="Test", home_community_id=Oid("1.2.3"), authority=Oid("1.2.3.9"), other_nationals=(Oid("1.2"),)
)
M = MemberId(1)


# --- the directory ------------------------------------------------------------------------------------------


def _keys(folder: Path, name: str = "keys.json") -> TokenKeys:
    keys = TokenKeys(folder / name, SystemFiles(), SystemIds())
    keys.open()
    return keys


def _member(code: str, status: str = "active") -> Member:
    return Member(
        id=M,
        code=code,
        name=code,
        repository_unique_id=Oid("1.2.3.10.1.1"),
        retrieve_location_uid=Oid("1.2.3.10.1.2"),
        authority=Oid("1.2.3.10.1.3"),
        status=status,
        secret=b"secret",  # type: ignore[arg-type]
    )


def _document(
    keys: TokenKeys, version: int, at_s: float = 0, hours: float = 1, status: str = "active"
) -> DirectoryDocument:
    issued = int((NOW + timedelta(seconds=at_s)).timestamp())
    return directory_document(
        (_member("RTK", status),),
        CredentialFacts(),
        REGION,
        keys,
        version=version,
        issued=issued,
        expires=issued + int(hours * 3600),
    )


def test_directory_round_trip_without_secrets(tmp_path: Path) -> None:
    keys = _keys(tmp_path)
    document = _document(keys, 7, status="suspended")
    token = sign_directory(document, keys)
    assert read_directory(token, keys.jwks(), "1.2.3") == document
    assert document.suspended == {"RTK"}
    assert "secret" not in str(document.claims())
    with pytest.raises(Unauthenticated):
        read_directory(token, _keys(tmp_path, "other.json").jwks(), "1.2.3")
    with pytest.raises(Unauthenticated):
        read_directory(token, keys.jwks(), "1.2.4")
    with pytest.raises(Unauthenticated):
        read_directory(token[:-3] + "AAA", keys.jwks(), "1.2.3")


def test_the_directory_names_systems_and_what_was_withdrawn(tmp_path: Path) -> None:
    keys = _keys(tmp_path)
    granted = Grants(capabilities=frozenset({"find", "store"}), store_at="RTK")
    document = replace(
        _document(keys, 7),
        systems=(DirectorySystem(name="pacs", grants=granted), DirectorySystem(name="new")),
        withdrawn_tokens=frozenset({"t1"}),
        withdrawn_certificates=frozenset({"1f", "2a"}),
    )
    assert read_directory(sign_directory(document, keys), keys.jwks(), "1.2.3") == document
    older = {k: v for k, v in document.claims().items() if k != "systems" and not k.startswith("withdrawn_")}
    read = DirectoryDocument.from_claims(older)  # of a registry before 0.3
    assert (read.systems, read.withdrawn_tokens) == ((), frozenset())
    for systems in ([{"grants": {}}], ["pacs"], [{"name": 1}]):
        with pytest.raises(Malformed):
            DirectoryDocument.from_claims({**document.claims(), "systems": systems})


def test_directory_rollback_and_freeze(tmp_path: Path) -> None:
    keys = _keys(tmp_path)
    known = _document(keys, 7, at_s=100)
    check_fresh(_document(keys, 8, at_s=100), known, NOW)
    # a registry restored from backup counts from lower again
    check_fresh(_document(keys, 3, at_s=200), known, NOW)
    for older in (_document(keys, 6, at_s=100), _document(keys, 9, at_s=50)):
        with pytest.raises(Unauthenticated, match="older"):
            check_fresh(older, known, NOW)
    with pytest.raises(Unauthenticated, match="expired"):
        check_fresh(_document(keys, 8, at_s=100), known, NOW + timedelta(hours=2))


def _state(tmp_path: Path, keys: TokenKeys) -> RegionState:
    member = MembershipFacts(
        id=1,
        code="RTK",
        name="R",
        repository_unique_id=Oid("1.1"),
        retrieve_location_uid=Oid("1.2"),
        authority=Oid("1.3"),
        secret=b"s",
        epoch=1,
    )
    reply = JoinReply(
        chain_pem="",
        bundle_pem="",
        member=member,
        region=REGION,
        jwks=keys.jwks(),
        registry=RegistryAddresses(grpc="x:1"),
    )
    assert JoinReply.from_plain(reply.plain()) == reply
    write_membership(tmp_path / "n", reply, b"", SystemFiles())
    return RegionState(tmp_path / "n", SystemFiles())


def test_state_keeps_the_newest_directory_over_a_restart(tmp_path: Path) -> None:
    keys = _keys(tmp_path)
    state = _state(tmp_path, keys)
    heard: list[int] = []
    state.on_change(lambda: heard.append(1))
    newest = sign_directory(_document(keys, 7, at_s=10, status="suspended"), keys)
    older = sign_directory(_document(keys, 6), keys)
    state.accept_directory(newest, NOW)
    with pytest.raises(Unauthenticated):
        state.accept_directory(older, NOW)
    state.accept_directory(newest, NOW)
    assert heard == [1]
    again = RegionState(tmp_path / "n", SystemFiles())
    assert again.suspended("RTK")
    assert again.region == REGION
    with pytest.raises(Unauthenticated):
        again.accept_directory(older, NOW)
    ages = [age_of(again.directory, NOW + timedelta(hours=h), timedelta(hours=24)) for h in (0, 24, 48)]
    assert ages == ["fresh", "ended", "old"]


def test_broken_state_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not joined"):
        RegionState(tmp_path, SystemFiles())
    for text in ("", "[]", "{}", '{"member": {}}'):
        (tmp_path / "member.json").write_text(text)
        with pytest.raises(ConfigError, match="Join again"):
            RegionState(tmp_path, SystemFiles())


def test_token_keys_are_private_and_last(tmp_path: Path) -> None:
    keys = _keys(tmp_path)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert _keys(tmp_path).jwks() == keys.jwks()
    os.chmod(tmp_path / "keys.json", 0o640)
    with pytest.raises(ConfigError):
        _keys(tmp_path)
    (tmp_path / "bad.json").write_text('{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    os.chmod(tmp_path / "bad.json", 0o600)
    with pytest.raises(ConfigError):
        _keys(tmp_path, "bad.json")


# --- presence -----------------------------------------------------------------------------------------------


def _board(clock: FakeClock, process: str = "p1") -> PresenceBoard:
    return PresenceBoard(clock, process, 6.0)


def test_presence_by_heartbeats() -> None:
    clock = FakeClock()
    board = _board(clock)
    never = board.presence(M, 60)
    assert (never.reachable, never.since, never.never_linked) == (False, None, True)
    token = board.opened(M)
    for _ in range(5):
        clock.at_s += 2
        board.heard(M, token, Report(waiting=4))
    clock.at_s += 5.9
    assert board.presence(M, 60).reachable
    clock.at_s += 0.2
    gone = board.presence(M, 60)
    assert (gone.reachable, gone.since, gone.waiting) == (False, NOW + timedelta(seconds=10), 4)
    clock.at_s += 100
    assert board.presence(M, 60).since == NOW + timedelta(seconds=10)  # since stays
    board.heard(M, token, Report())
    assert board.presence(M, 60).reachable


def test_presence_when_the_link_is_lost_and_an_older_link_ends_late() -> None:
    clock = FakeClock()
    board = _board(clock)
    older = board.opened(M)
    newer = board.opened(M)
    board.lost(M, older)
    board.heard(M, older, Report(waiting=9))
    assert board.presence(M, 60).reachable
    assert board.presence(M, 60).waiting == 0
    clock.at_s = 3
    board.lost(M, newer)
    assert board.presence(M, 60).since == NOW + timedelta(seconds=3)


def test_presence_over_a_restart_and_between_processes() -> None:
    clock = FakeClock()
    first = _board(clock)
    token = first.opened(M)
    first.heard(M, token, Report(parked=1))
    saved = first.unwritten()
    first.written(saved)
    assert [row.reachable for row in saved] == [True]
    assert first.unwritten() == []

    other = _board(clock, "p2")  # another process sees it through the database
    other.refresh(saved)
    clock.at_s = 7
    assert other.presence(M, 60).reachable
    clock.at_s = 8
    assert not other.presence(M, 60).reachable
    assert other.presence(M, 60).since == NOW

    # the registry was away for a minute: a new process trusts what it reads for as long as a silence
    clock.at_s = 60
    command = _board(clock, "p0")  # which takes no links, and trusts times only
    command.refresh(saved)
    assert not command.presence(M, 60).reachable
    restarted = _board(clock, "p3")
    restarted.serve()
    restarted.refresh(saved)
    assert restarted.presence(M, 60).reachable
    assert restarted.presence(M, 60).unheard, "what it said is a minute old"
    again = restarted.opened(M)
    assert restarted.presence(M, 60).unheard, "it has linked, and said nothing yet"
    restarted.heard(M, again, Report(waiting=1))
    assert not restarted.presence(M, 60).unheard
    restarted = _board(clock, "p3")
    restarted.serve()
    restarted.refresh(saved)
    clock.at_s = 66.5
    assert not restarted.presence(M, 60).reachable
    assert restarted.presence(M, 60).since == NOW

    lost = [replace(saved[0], reachable=False, since=NOW)]
    fresh = _board(clock, "p4")
    fresh.refresh(lost)
    assert not fresh.presence(M, 60).reachable  # one that was unreachable is so at once
    assert fresh.presence(M, 60).parked == 1


def test_what_a_member_said_before_it_was_away_is_old_until_it_says_more() -> None:
    clock = FakeClock()
    board = _board(clock)
    token = board.opened(M)
    assert board.presence(M, 60).unheard
    board.heard(M, token, Report())
    renewed = board.opened(M)  # beside a link that is up: nothing was missed
    assert not board.presence(M, 60).unheard
    clock.at_s = 3
    board.lost(M, renewed)
    board.opened(M)
    assert board.presence(M, 60).unheard
    other = _board(clock, "p2")  # another process says the same
    other.refresh(board.unwritten())
    assert other.presence(M, 60).unheard


def test_what_faces_say_is_written_as_soon_as_it_is_so() -> None:
    """A registry that is killed just after it called a member unreachable calls it so again from its first
    answer on.
    """
    clock, lost = FakeClock(), 0

    def count() -> None:
        nonlocal lost
        lost += 1

    board = _board(clock)
    board.on_lost = count
    assert board.due_s() == float("inf")
    token = board.opened(M)
    clock.at_s = 4
    assert board.due_s() == 2
    clock.at_s = 6.5
    assert board.due_s() == float("inf")
    assert [(row.reachable, row.since) for row in board.unwritten()] == [(False, NOW)]
    board.heard(M, token, Report())
    assert board.due_s() == 6
    board.lost(M, token)
    assert (lost, board.due_s()) == (1, float("inf"))


def test_presence_follows_the_link_to_another_process() -> None:
    clock = FakeClock()
    board = _board(clock)
    board.opened(M)
    clock.at_s = 10
    elsewhere = PresenceRow(
        member=M, process="p2", reachable=True, since=None, last_heard=clock.now(), report=Report(waiting=2)
    )
    board.refresh([elsewhere])
    assert board.presence(M, 60).reachable
    assert board.presence(M, 60).waiting == 2
    assert board.unwritten() == []  # the row is the other's now


# --- live connections ---------------------------------------------------------------------------------------


def test_cut_ends_all_of_one_member_and_nothing_of_another() -> None:
    live, other = LiveConnections(), MemberId(2)
    closed: list[str] = []
    forget = live.closer(M, lambda: closed.append("forgotten"))
    forget()
    live.closer(M, lambda: closed.append("kept"))
    live.closer(other, lambda: closed.append("another's"))
    assert live.count(M) == 1
    assert live.cut(M) == 1
    assert (closed, live.count(M), live.count(other)) == (["kept"], 0, 1)


def test_pem_blocks() -> None:
    key, _ = new_request("x", SystemIds())
    both = b"junk\n" + key + b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
    assert pem_blocks(both)[0] == key
    assert pem_blocks(both)[1].startswith(b"-----BEGIN CERTIFICATE")
    assert pem_blocks(b"") == (b"", b"")
