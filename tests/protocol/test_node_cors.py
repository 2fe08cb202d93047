"""A web viewer at a node as it is composed for use: a page of a configured origin reads, any other does not
(Fetch 3.2).
"""

from __future__ import annotations

from pathlib import Path

from road_studies import image
from whole_region import whole_region

VIEWER, OTHER = "https://viewer.example", "https://evil.example"
STUDY = "1.2.9.1"


async def test_a_viewer_of_a_configured_origin_reads(tmp_path: Path) -> None:
    async with whole_region(tmp_path, {"RTK": "grpc"}, serve={"cors_origins": [VIEWER]}) as region:
        home = region.homes["RTK"]
        await home.add([image(1)])
        root = f"{home.app.endpoints.base}/dicomweb"
        paths = (
            "/studies",
            f"/studies/{STUDY}",
            f"/studies/{STUDY}/metadata",
            f"/studies/{STUDY}/thumbnail",
            "/studies/1.2.3/metadata",
        )
        for path in paths:  # the last is a 404, which a page reads too
            asked = {
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "if-none-match",
            }
            async with region.http.options(root + path, headers={"Origin": VIEWER, **asked}) as response:
                assert response.status == 204, path
                assert response.headers["Access-Control-Allow-Origin"] == VIEWER
                assert "If-None-Match" in response.headers["Access-Control-Allow-Headers"]
            for origin, expected in ((VIEWER, VIEWER), (OTHER, None), (None, None)):
                sent = {"Origin": origin} if origin else {}
                async with region.http.get(root + path, headers=sent) as response:
                    assert response.headers.get("Access-Control-Allow-Origin") == expected, (path, origin)
                    assert "Origin" in response.headers.getall("Vary")
            async with region.http.get(root + path, headers={"Origin": VIEWER}) as response:
                assert {"ETag", "Warning"} <= set(
                    response.headers["Access-Control-Expose-Headers"].split(", ")
                )


async def test_no_origin_is_let_in_by_default(tmp_path: Path) -> None:
    async with whole_region(tmp_path, {"RTK": "grpc"}) as region:
        async with region.http.get(
            f"{region.homes['RTK'].app.endpoints.base}/dicomweb/studies", headers={"Origin": VIEWER}
        ) as response:
            assert response.status == 200
            assert "Access-Control-Allow-Origin" not in response.headers
