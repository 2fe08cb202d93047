"""What the commands ``withdraw`` and ``publish`` do (D16).

Take studies out of the index for safety, or sealed, and back.

They write into the node's database; a node that runs sees it by the studies' change marks, within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from crosslight.runtime.terminal import counted, printable
from crosslight.standards.ids import checked_uid
from node.offline import at_the_machine, opened, publications

MAX_REASON_CHARS = 500


async def withdraw(folder: Path, studies: Sequence[str], reason: str, console: Console) -> bool:
    """Take studies out of the index with all that was ever published of them.

    Answers whether all of them are known here, and none of them is under a legal hold.

    One that was never published, or whose objects are still coming in, is withdrawn before anything of it is.
    """
    done, unknown, held = 0, [], []
    async with opened(folder) as node:
        store = await publications(node)
        for study_uid in dict.fromkeys(checked_uid(named, "STUDY") for named in studies):
            row, mark = await store.look(study_uid)
            if row is None and mark is None:
                unknown.append(study_uid)
                continue
            if holds := await node.archive.holds.of(study_uid):
                held.append(f"{study_uid} stays in the index: it is under the legal hold {holds[0].id}.")
                continue
            async with await at_the_machine(node, "withdraw", study_uid, reason=reason):
                await store.withdraw(study_uid, reason[:MAX_REASON_CHARS], node.seams.clock.now().timestamp())
            done += 1
    _say(console, done, "withdrawn", "was never here", unknown)
    if done:
        console.print(
            "Their objects stay here, and this node gives them out: crosslight-node delete puts them into the"
            " bin."
        )
    for line in held:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return not unknown and not held


async def publish(folder: Path, studies: Sequence[str], console: Console) -> bool:
    """Publish studies again that were withdrawn; whether all of these were."""
    done, unknown = 0, []
    async with opened(folder) as node:
        store = await publications(node)
        for study_uid in dict.fromkeys(checked_uid(named, "STUDY") for named in studies):
            row, _ = await store.look(study_uid)
            if row is None or row.state != "withdrawn":
                unknown.append(study_uid)
                continue
            async with await at_the_machine(node, "publish", study_uid):
                await store.publish_again(study_uid, node.seams.clock.now().timestamp())
            done += 1
    _say(console, done, "published again", "is not withdrawn", unknown)
    return not unknown


def _say(console: Console, done: int, what: str, why_not: str, unknown: Sequence[str]) -> None:
    console.print(f"{counted(done, 'study is', 'studies are')} {what}.", highlight=False)
    for study_uid in unknown:
        console.print(f"{printable(study_uid)} {why_not}.", markup=False, highlight=False, soft_wrap=True)
