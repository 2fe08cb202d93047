"""The question about whoever shows a certificate, and what is open by its answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from crosslight.runtime.clock import SystemClock
from crosslight.runtime.peers import LivePeers, PeerCertificate, check_peer, named_peer, tls_peer
from crosslight.runtime.tls import Identity
from crosslight.standards.access import Grants
from crosslight.standards.problem import Forbidden, Unauthenticated

HOME, NOW = "1.2.3", datetime(2026, 11, 30, 12, tzinfo=UTC)
END = NOW + timedelta(hours=1)


class Word:
    """What the region says."""

    community = HOME

    def __init__(self) -> None:
        self.statuses = {"RTK": "active", "OUT": "suspended", "NEW": "invited", "SRC": "foreign"}
        self.systems, self.withdrawn = {"PACS"}, {"0b"}

    def member_status(self, code: str) -> tuple[str, str]:
        return self.statuses.get(code, ""), "a reason"

    def is_system(self, name: str) -> bool:
        return name in self.systems

    def system_grants(self, name: str) -> Grants:
        return Grants()

    def is_withdrawn(self, serial: str) -> bool:
        return serial in self.withdrawn


def peer(
    kind: str, name: str = "", *, serial: str = "a", home: str = HOME, expires: datetime = END
) -> PeerCertificate:
    return PeerCertificate(Identity(kind, name, home), serial, expires)  # type: ignore[arg-type]  # one of three


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (peer("member", "RTK"), ""),
        (peer("system", "PACS"), ""),
        (peer("gateway"), ""),
        (named_peer(Identity("member", "RTK", HOME)), ""),
        (peer("member", "OUT"), "suspended"),
        (peer("member", "NEW"), "No member"),
        (peer("member", "SRC"), "No member"),
        (peer("member", "XXX"), "No member"),
        (peer("member", ""), "No member"),
        (peer("member", "rtk"), "No member"),
        (peer("system", "RTK"), "No system"),
        (peer("member", "PACS"), "No member"),
        (peer("member", "RTK", serial="0b"), "withdrawn"),
        (peer("gateway", serial="0b"), "withdrawn"),
        (peer("member", "RTK", expires=NOW), "expired"),
        (peer("member", "RTK", home="1.2.4"), "another region"),
    ],
)
def test_who_is_let_in(shown: PeerCertificate, words: str) -> None:
    if not words:
        check_peer(shown, Word(), NOW)
        return
    with pytest.raises(Forbidden if words == "suspended" else Unauthenticated, match=words):
        check_peer(shown, Word(), NOW)


def test_who_is_no_caller_here() -> None:
    with pytest.raises(Unauthenticated, match="gateway opens nothing here"):
        check_peer(peer("gateway"), Word(), NOW, {"member", "system"})


def test_serial_numbers_are_written_as_the_authority_does() -> None:
    names = (("URI", f"spiffe://{HOME}/member/RTK"),)
    shown = {"subjectAltName": names, "serialNumber": "0ABC", "notAfter": "Jan  1 00:00:00 2099 GMT"}
    assert tls_peer(shown).serial == "abc"
    with pytest.raises(Unauthenticated):
        tls_peer(None)


class FakeTransport(asyncio.Transport):
    """Remembers that it was aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


async def test_only_what_is_no_longer_let_in_is_cut() -> None:
    word = Word()
    live = LivePeers(SystemClock(), lambda shown: check_peer(shown, word, NOW))
    mine, theirs, told = FakeTransport(), FakeTransport(), list[str]()
    member, system = peer("member", "RTK"), peer("system", "PACS")
    live.connection(member, mine)
    live.connection(member, mine)
    live.connection(system, theirs)
    live.connection(system, None)
    live.closer(member, lambda error: told.append("forgotten"))()
    live.closer(member, lambda error: told.append(error.what))
    assert (live.look(), live.count(member.identity)) == (0, 2)
    word.statuses["RTK"] = "suspended"
    assert live.look() == 2
    assert (mine.aborted, theirs.aborted, told) == (True, False, ["This member is suspended."])
    assert (live.count(member.identity), live.count(system.identity), live.look()) == (0, 1, 0)


async def test_a_certificates_end_is_waited_for() -> None:
    clock, word = SystemClock(), Word()
    live = LivePeers(clock, lambda shown: check_peer(shown, word, clock.now()))
    running = asyncio.create_task(live.run())
    long, short = FakeTransport(), FakeTransport()
    live.connection(peer("member", "RTK", expires=clock.now() + timedelta(days=1)), long)
    await asyncio.sleep(0)
    live.connection(peer("member", "RTK", expires=clock.now() + timedelta(seconds=0.2)), short)
    async with asyncio.timeout(30):
        while not short.aborted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not long.aborted
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
