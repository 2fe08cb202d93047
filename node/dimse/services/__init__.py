"""What a node does for DICOM systems, one file for each service; this is where they register.

A service answers the requests of its command fields (:class:`node.dimse.association.DimseService`). A further
one is a file here and a line in :func:`all_services`.
"""

from __future__ import annotations

from node.dimse.association import DimseService
from node.dimse.config import DimseConfig
from node.dimse.services.echo import Echo
from node.dimse.services.store import Store
from node.holdings import Holdings


def all_services(holdings: Holdings, config: DimseConfig) -> tuple[DimseService, ...]:
    """Every service of a node."""
    return (Echo(), Store(holdings, config.more_sop_classes))
