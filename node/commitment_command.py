"""``crosslight-node commitment``: asks another system to keep a study for good, and says what it said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from crosslight.runtime.audit import OutcomeKind
from crosslight.runtime.command import run
from crosslight.runtime.terminal import counted, make_console, printable
from crosslight.standards.dicom.query.commitment import COMMITTED, FAILURES
from crosslight.standards.ids import checked_uid
from crosslight.standards.problem import ConfigError, NotFound
from node.commitment.asking import ask_for_commitment
from node.commitment.store import Asked, CommitmentStore
from node.dimse.callers import Callers
from node.dimse.outgoing import associate, peers_of
from node.offline import Offline, at_the_machine, opened


async def ask_a_peer(folder: Path, study_uid: str, title: str, wait_s: float) -> list[Asked]:
    """Ask the destination ``title`` to keep what lies here of a study, and wait for its reports.

    Raises:
        ConfigError: there is no such destination.
        NotFound: nothing of the study lies here.
        Unavailable: the destination cannot be reached, or refuses.
    """
    study_uid = checked_uid(study_uid, "STUDY")
    async with opened(folder) as node:
        peer = peers_of(node.config.dimse, folder).get(title)
        if peer is None:
            raise ConfigError(
                f"{title} is no destination.", todo="Name it in [[dimse.destinations]].", where="--to"
            )
        refs = [stored.ref for stored in await node.archive.objects(study_uid) if stored.ref.sha256]
        if not refs:
            raise NotFound("Nothing of that lies here.", where=study_uid)
        store = CommitmentStore(node.db, node.seams.clock)
        await store.open()
        reaching = partial(associate, peer, calling=_own_title(node))
        async with await at_the_machine(node, "commit", study_uid, to=title) as act:
            asked = await ask_for_commitment(store, node.seams, title, reaching, refs, wait_s=wait_s)
            found = [one for one in await store.of_study(study_uid) if one.transaction_uid in asked]
            verdicts = [verdict for one in found for verdict in one.verdicts.values()]
            n_kept = verdicts.count(COMMITTED)
            n_refused = len(verdicts) - n_kept - verdicts.count(None)
            kind: OutcomeKind = "ok" if n_kept == len(verdicts) else "partial" if n_kept else "failed"
            act.done(kind, committed=n_kept, refused=n_refused, unanswered=verdicts.count(None))
        return found


async def asked_before(folder: Path, study_uid: str) -> list[Asked]:
    """What was asked of a study, and what was said to it; the newest first."""
    study_uid = checked_uid(study_uid, "STUDY")
    async with opened(folder) as node:
        store = CommitmentStore(node.db, node.seams.clock)
        await store.open()
        async with await at_the_machine(node, "read", study_uid):
            return await store.of_study(study_uid)


def _own_title(node: Offline) -> str:
    code = node.membership.code if node.membership is not None else ""
    title = Callers(node.config.dimse, code).ae_title
    if not title:
        raise ConfigError("This node has no AE title yet.", todo="Set it.", where="dimse.ae_title")
    return title


def _show(asked: Sequence[Asked], console: Console) -> bool:
    """Print verdicts by instance; whether all are committed."""
    whole = True
    for one in asked:
        n_kept = sum(verdict == COMMITTED for verdict in one.verdicts.values())
        whole &= n_kept == len(one.verdicts)
        when = f"asked {datetime.fromtimestamp(one.asked_unix, UTC):%Y-%m-%d %H:%M} UTC"
        when += "" if one.answered_unix is not None else ", no report yet"
        said = f"{one.peer} has committed {n_kept} of {counted(len(one.verdicts), 'instance')}; {when}"
        console.print(Text(printable(said)), soft_wrap=True)
        for sop_uid, verdict in one.verdicts.items():
            if verdict != COMMITTED:
                console.print(Text(printable(f"  {sop_uid}: {_words(verdict)}")), soft_wrap=True)
    return whole


def _words(verdict: int | None) -> str:
    if verdict is None:
        return "nothing was said of it"
    return f"not committed: {FAILURES.get(verdict, 'no reason that is known')} ({verdict:04X}H)"


@click.group()
def commitment() -> None:
    """Ask other systems to keep studies for good (DICOM storage commitment)."""


@commitment.command()
@click.argument("study_uid")
@click.option("--to", "title", required=True, help="AE title of one of [[dimse.destinations]].")
@click.option(
    "--wait",
    "wait_s",
    default=60.0,
    type=click.FloatRange(0.0, 3600.0),
    help="Seconds to wait for its report.",
)
@click.pass_obj
def ask(folder: Path, study_uid: str, title: str, wait_s: float) -> None:
    """Ask whether a destination keeps for good what lies here of a study; status 1 unless it keeps all.

    A destination that reports on an association of its own calls the running node: it must be among
    [[dimse.callers]] (may = []).
    """
    sys.exit(0 if _show(run(ask_a_peer(folder, study_uid, title, wait_s)), make_console()) else 1)


@commitment.command()
@click.argument("study_uid")
@click.pass_obj
def show(folder: Path, study_uid: str) -> None:
    """What was asked of a study, and what was said to it, also what came after the waiting."""
    asked = run(asked_before(folder, study_uid))
    if not asked:
        make_console().print("Nobody was asked.", highlight=False)
    _show(asked, make_console())
