"""Attribute sets that are forgotten while objects come: none that an instance has is lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dicom_objects as make
import orjson
from archive_fixture import Held, held

from node.archive import variants


async def test_a_set_that_is_taken_up_meanwhile_is_found_again(tmp_path: Path) -> None:
    async with held(tmp_path) as here:
        await here.put(make.image(1))
        await here.settle()
        count = "SELECT count(*) FROM variant"
        before = await here.db.read("count", lambda tx: tx.rows(count))
        ids = await here.db.read("ids", lambda tx: {row[0] for row in tx.rows("SELECT id FROM variant")})
        await here.db.write("aside", lambda tx: variants.set_aside_tx(ids, tx))
        await here.db.write("back", lambda tx: variants.forget_tx(set(), ids, tx))
        await here.put(make.image(2))
        await here.settle()
        assert await here.db.read("count", lambda tx: tx.rows(count)) == before, "the same sets"
        await here.db.write("aside", lambda tx: variants.set_aside_tx(ids, tx))
        await here.put(make.image(3))  # makes sets of its own
        await here.settle()
        await here.db.write("back", lambda tx: variants.forget_tx(set(), ids, tx))
        assert await here.db.read("unused", variants.unused_tx) == set()
        assert len(await here.archive.objects(make.STUDY)) == 3


async def test_a_purge_leaves_nothing_that_names_the_patient(tmp_path: Path) -> None:
    """What other studies, and instances that come meanwhile, have in common with what goes stays."""
    async with held(tmp_path) as here:
        await here.put(make.image(1, PatientName="Gone^Person"))
        await here.put(make.image(1, study="1.2.9", PatientName="Stays^Person"))
        await here.archive.delete(make.STUDY, "test")
        here.clock.ahead = timedelta(days=29)
        assert await here.archive.purge() == 0
        assert await _names(here) == {"Gone^Person", "Stays^Person"}, "it can be restored"
        here.clock.ahead = timedelta(days=31)
        assert await here.archive.purge() == 1
        assert await _names(here) == {"Stays^Person"}
        (found,) = await here.archive.objects("1.2.9")
        assert found.ref.study_uid == "1.2.9"
        again = await here.put(make.image(1, PatientName="Gone^Person"))
        assert again.state == "stored"
        await here.settle()
        assert await _names(here) == {"Gone^Person", "Stays^Person"}


async def _names(here: Held) -> set[str]:
    rows = await here.db.read("sets", lambda tx: tx.rows("SELECT attributes FROM variant"))
    sets = [orjson.loads(row[0]) for row in rows]
    return {one["00100010"]["Value"][0]["Alphabetic"] for one in sets if "00100010" in one}
