"""A process that carries an archive's objects, to be killed: ``python carry_child.py FOLDER ENDPOINT MB``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from archive_fixture import held
from own_bucket import bucket_at

from node.archive.config import ObjectStoreConfig


async def _main(folder: Path, endpoint: str, mb_per_s: float) -> None:
    config = ObjectStoreConfig(url="s3://images/own", keep_local_gb=0.0, mb_per_s=mb_per_s)
    bucket = bucket_at(folder, endpoint)
    async with held(folder, bucket=bucket, object_store=config, min_free_bytes=0) as here:
        print("begun", flush=True)
        while await here.archive.carrier.step(bucket):
            pass
        await here.archive.carrier.step(bucket)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
