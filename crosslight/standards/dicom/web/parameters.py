"""Query parameters of DICOMweb that are no matching keys (PS3.18 8.3).

Those not supported are ignored, with a warning.

Only what narrows nothing may be ignored: the standard's own names, and names that begin with ``_`` (cache
busters). Any other name may be a misspelt key, and is refused where it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Of PS3.18 8.3: none of them selects what is answered.
STANDARD = frozenset(
    {
        "annotation",
        "charset",
        "emptyvaluematching",
        "iccprofile",
        "multiplevaluematching",
        "quality",
        "viewport",
        "window",
    }
)


def may_be_ignored(name: str) -> bool:
    """Whether a parameter that is not supported narrows nothing."""
    return name.lower() in STANDARD or name.startswith("_")


def ignored_warning(names: Iterable[str]) -> str:
    """The text of a Warning: 299 for parameters that were not used."""
    shown = sorted({re.sub(r"[^A-Za-z0-9_.-]", "?", name)[:64] for name in names})
    return f"Not supported and ignored: {', '.join(shown[:10])}"
