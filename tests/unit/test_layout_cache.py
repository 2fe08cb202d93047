"""Frame layouts that are kept: by their number, and by the spans they hold together."""

from __future__ import annotations

from crosslight.standards.dicom.pixels.frames import FrameLayout
from node.serve.cache import LayoutCache


def _layout(spans: int) -> FrameLayout:
    return FrameLayout(kind="encapsulated", frames=spans, spans=(((0, 1),),) * spans)


def test_the_oldest_go_first_by_number_and_by_spans() -> None:
    cache = LayoutCache(3, spans=100)
    for name, spans in (("a", 10), ("b", 10), ("c", 10)):
        cache.put(name, _layout(spans))
    assert cache.get("a") is not None, "and is the newest now"
    cache.put("d", _layout(10))
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]
    cache.put("large", _layout(90))
    assert [name for name in ("a", "c", "d", "large") if cache.get(name)] == ["d", "large"]
    cache.put("larger", _layout(101))
    assert [cache.get("larger"), cache.get("large") is None] == [None, False], "and drives out nobody"
    cache.put("d", _layout(40))
    cache.put("d", _layout(60))
    cache.put("e", _layout(40))
    assert cache.get("d") is not None, "one that comes again counts once"
