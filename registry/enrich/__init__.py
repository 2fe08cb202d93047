"""Completing studies that were registered by their entry only (D17).

::

    the change feed tells of what waits; a scan finds what waited before      enricher.py
    each member has an agenda: what is due when, later after each failure     schedule.py
    a lease is taken, so that no other process does the same                  index/leases.py
    one holding is completed, or one document read                            completion.py
        the manifest: by ITI-43, checked by hash and size, parsed apart       manifests.py
        the series: by QIDO-RS, where the holder can be asked                 series.py
        both become the record that the holder's own feed would have sent     intake/manifest_records.py
        the acceptor commits more detail, no new version; the feed tells      intake/accept.py
    the lease is given back
"""
