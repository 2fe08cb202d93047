"""The floor: what the transport, the parser and one transaction cost when nothing is decided.

``python -m benchmarks.floor``.

An aiohttp server that reads a patient's rows by an index, commits a row that says so, and sends prepared
bytes (``/canned/NAME?who=N``: D20 allows no answer without these two), or parses XML and inserts one row
(``/submit``), and a gRPC server that parses a batch and inserts its rows. One process, as the registry is.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import orjson
from aiohttp import web
from lxml import etree

from benchmarks.peers import HOST
from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime.db import Db, Tx, open_db

_TABLE = (
    "CREATE TABLE floor (uid TEXT PRIMARY KEY, patient TEXT NOT NULL, body {blob} NOT NULL);\n"
    "CREATE INDEX floor_patient ON floor (patient);\n"
)
_ROWS = (
    "CREATE TABLE floor_study (patient INTEGER NOT NULL, n INTEGER NOT NULL, body {blob} NOT NULL,"
    " PRIMARY KEY (patient, n));\n"
    "CREATE TABLE floor_act (n INTEGER PRIMARY KEY, body {blob} NOT NULL);\n"
)
PATIENTS, STUDIES = 500, 20
STUDY, ACT = bytes(364), bytes(400)  # as many bytes as the registry's take
_LOOK = "SELECT n, body FROM floor_study WHERE patient = ?"
_ACT = "INSERT INTO floor_act VALUES (?, ?)"
_INSERT = "INSERT INTO floor VALUES (?, ?, ?)"


class Floor(pb_grpc.IndexFeedServicer):
    """Both servers over one database."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._canned: dict[str, tuple[str, bytes]] = {}
        self._count = 0

    async def open(self) -> None:
        """Make the tables, and the rows that are looked up."""

        def make(tx: Tx) -> None:
            blob = "BLOB" if tx.dialect.name == "sqlite" else "BYTEA"
            tx.script((_TABLE + _ROWS).format(blob=blob))
            rows = [(patient, n, STUDY) for patient in range(PATIENTS) for n in range(STUDIES)]
            tx.executemany("INSERT INTO floor_study VALUES (?, ?, ?)", rows)

        await self._db.write("make", make)

    def app(self) -> web.Application:
        """The HTTP face."""
        app = web.Application(client_max_size=16 << 20)
        app.add_routes(
            [
                web.put("/canned/{name}", self.keep),
                web.get("/canned/{name}", self.send),
                web.post("/canned/{name}", self.send),
                web.post("/submit", self.submit),
            ]
        )
        return app

    async def keep(self, request: web.Request) -> web.Response:
        """Learn an answer."""
        self._canned[request.match_info["name"]] = (request.headers["Content-Type"], await request.read())
        return web.Response()

    async def send(self, request: web.Request) -> web.Response:
        """The learnt answer, after one indexed read and one committed act."""
        if request.method == "POST":
            etree.fromstring(await request.read())
        who = int(request.query.get("who", "0")) % PATIENTS
        self._count += 1
        act = (self._count, ACT)
        rows = await self._db.read_near("look", lambda tx: tx.rows(_LOOK, (who,)))
        assert len(rows) == STUDIES
        await self._db.write("act", lambda tx: tx.execute(_ACT, act))
        kind, data = self._canned[request.match_info["name"]]
        return web.Response(body=data, headers={"Content-Type": kind})

    async def submit(self, request: web.Request) -> web.Response:
        """Parse, insert one row, answer."""
        data = await request.read()
        etree.fromstring(data)
        self._count += 1
        row = (f"submission-{self._count}", "", data[:600])
        await self._db.write("submit", lambda tx: tx.execute(_INSERT, row))
        kind, answer = self._canned["submitted"]
        return web.Response(body=answer, headers={"Content-Type": kind})

    async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishReply:  # noqa: N802 - gRPC's name
        """Parse a batch, insert its rows."""
        rows = []
        for a in request.acts:
            assert isinstance(orjson.loads(a.publish.packed), list)
            patient = a.publish.study.patient.local.value
            rows.append((f"{a.version.n}-{a.study_uid}", patient, a.SerializeToString()))
        await self._db.write("publish", lambda tx: tx.executemany(_INSERT, rows))
        results = [pb.ActResult(version=act.version, outcome=pb.ActResult.ACCEPTED) for act in request.acts]
        return pb.PublishReply(incarnation="floor", results=results)


async def serve(port: int, url: str) -> None:
    """Serve HTTP on ``port`` and gRPC on ``port + 1`` until SIGTERM."""
    db = open_db(url, base=Path())
    floor, stop = Floor(db), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await floor.open()
    server = grpc.aio.server()
    add: Any = pb_grpc.add_IndexFeedServicer_to_server
    add(floor, server)
    server.add_insecure_port(f"{HOST}:{port + 1}")
    await server.start()
    runner = web.AppRunner(floor.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await stop.wait()
    await server.stop(0)
    await runner.cleanup()
    await db.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
