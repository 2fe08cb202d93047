"""What a node does for DICOM systems, one file for each service; this is where they register.

A service answers the requests of its command fields (:class:`node.dimse.association.DimseService`). A further
one is a file here and a line in :func:`taking_services`, :func:`hearing_services` or
:func:`giving_services`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from crosslight.runtime.clock import Clock
from node.dimse.association import DimseService
from node.dimse.config import DimseConfig
from node.dimse.landing import Expected
from node.dimse.on_loop import OnLoop
from node.dimse.outgoing import CalledSystem, associate
from node.dimse.services.availability import Availability, Hearing
from node.dimse.services.commitment import Commitment
from node.dimse.services.commitment_reports import CommitmentReports, KeepsReports
from node.dimse.services.echo import Echo
from node.dimse.services.find import Find
from node.dimse.services.get import Get
from node.dimse.services.move import Move
from node.dimse.services.store import Store
from node.dimse.way_out import WayOut
from node.holdings import Holdings


def taking_services(
    holdings: Holdings, config: DimseConfig, expected: Expected | None = None
) -> tuple[DimseService, ...]:
    """Those by which objects come in; what is ``expected`` is not for ``holdings``, and passes through."""
    return (Echo(), Store(holdings, config.more_sop_classes, expected))


def hearing_services(on_loop: OnLoop, hearing: Hearing, reports: KeepsReports) -> tuple[DimseService, ...]:
    """Those by which archives say what they have, and what they keep for good."""
    return (Availability(on_loop, hearing), CommitmentReports(on_loop, reports))


def giving_services(
    way_out: WayOut, config: DimseConfig, ae_title: str, peers: Mapping[str, CalledSystem], clock: Clock
) -> tuple[DimseService, ...]:
    """Those by which something is found and leaves.

    Args:
        way_out: What can be given, and who decides.
        config: The ``[dimse]`` section.
        ae_title: The node's own.
        peers: Where objects may be sent, by AE title.
        clock: For how often a caller is told how far its retrieve is.
    """
    calling = partial(associate, calling=ae_title)
    return (
        Find(way_out, ae_title, config.max_find_results),
        Move(way_out, peers, calling, clock.monotonic_s, config.max_retrieve_objects),
        Commitment(way_out, ae_title, peers, calling),
        Get(way_out, clock.monotonic_s, config.max_retrieve_objects, config.more_sop_classes),
    )
