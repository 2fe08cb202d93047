"""The life cycle on the wire as a function: whatever is there, the acts lead to what is wanted, and each has
its own number.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.ids import Identifier, Version
from crosslight.standards.study import ManifestFacts
from node.publish.decide import after, next_act, version_for
from node.publish.model import Acked, Delivery, Revision, Want

ADA, BEN = Identifier("A1", "1.2.99"), Identifier("B1", "1.2.99")


def acked(n: int = 1, *, status: str = "Approved", patient: Identifier = ADA, digest: str = "d1") -> Acked:
    version = Version(1, n)
    return Acked(version=version, digest=digest, sha1="s", status=status, patient=patient, chain=(version,))  # type: ignore[arg-type]


def publish(n: int, *, patient: Identifier = ADA, digest: str = "d2") -> Want:
    return Want(kind="publish", version=Version(1, n), digest=digest, patient=patient)


@pytest.mark.parametrize(
    ("want", "there", "act"),
    [
        (publish(5), None, Delivery(kind="fresh", version=Version(1, 5))),
        (publish(5), acked(), Delivery(kind="replace", version=Version(1, 5), replaces=Version(1, 1))),
        (publish(5, digest="d1"), acked(), None),
        (publish(5, patient=BEN), acked(), Delivery(kind="withdraw", version=Version(1, 4))),
        (publish(5), acked(status="Deprecated"), Delivery(kind="approve", version=Version(1, 4))),
        (
            publish(5, digest="d1"),
            acked(status="Deprecated"),
            Delivery(kind="approve", version=Version(1, 4)),
        ),
        (
            publish(5, patient=BEN),
            acked(status="Deprecated"),
            Delivery(kind="withdraw", version=Version(1, 4)),
        ),
        (
            Want(kind="deprecate", version=Version(1, 5)),
            acked(),
            Delivery(kind="deprecate", version=Version(1, 5)),
        ),
        (Want(kind="deprecate", version=Version(1, 5)), acked(status="Deprecated"), None),
        (Want(kind="deprecate", version=Version(1, 5)), None, None),
        (
            Want(kind="withdraw", version=Version(1, 5)),
            acked(),
            Delivery(kind="withdraw", version=Version(1, 5)),
        ),
        (Want(kind="withdraw", version=Version(1, 5)), None, None),
    ],
)
def test_next_act(want: Want, there: Acked | None, act: Delivery | None) -> None:
    assert next_act(want, there) == act


_WANTS = st.builds(
    lambda kind, digest, patient: (kind, digest, patient),
    st.sampled_from(["publish", "publish", "publish", "deprecate", "withdraw"]),
    st.sampled_from(["d1", "d2", "d3"]),
    st.sampled_from([ADA, BEN]),
)


@given(st.lists(_WANTS, min_size=1, max_size=12), st.lists(st.integers(1, 3), min_size=12, max_size=12))
def test_every_want_is_reached_and_no_number_is_used_twice(
    wants: list[tuple[str, str, Identifier]], gaps: list[int]
) -> None:
    there: Acked | None = None
    last: Version | None = None
    next_n, used = 1, set()
    for (kind, digest, patient), gap in zip(wants, gaps, strict=False):
        version = version_for(next_n, 1, last)
        next_n, last = version.n + gap, version
        want = Want(kind=kind, version=version, digest=digest, patient=patient)  # type: ignore[arg-type]
        for _ in range(4):
            act = next_act(want, there)
            if act is None:
                break
            assert act.version not in used
            used.add(act.version)
            there = after(act, there, revision(want) if act.kind in ("fresh", "replace") else None)
        assert next_act(want, there) is None
        if kind == "publish":
            assert there is not None
            assert (there.status, there.digest, there.patient) == ("Approved", digest, patient)
        elif kind == "withdraw":
            assert there is None
        else:
            assert there is None or there.status == "Deprecated"


def revision(want: Want) -> Revision:
    facts = ManifestFacts(document_uid="2.25.1", sha1="s", size_bytes=1, creation_time="2025")
    return Revision(
        version=want.version,
        study_uid="1.2",
        manifest=facts,
        submission_time="2025",
        digest=want.digest,
        patient=want.patient,
    )
