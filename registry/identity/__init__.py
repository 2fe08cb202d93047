"""Who is who: patient records, persons, links with history, the ADT feed.

The order of calls, all in the caller's transaction:

1. A feed or a study comes: ``store.batch`` makes a ``batch.FeedBatch``; ``prefetch`` looks many patients up.
2. ``feed`` finds the record, notes a new one, or gives a change to ``patient_feed.FeedOfOne``; ``settle``
   writes the new ones (``tables.py`` has the rows).
3. Once the studies are written, ``FeedBatch.compare`` runs ``compare.Comparison``: headers that are not the
   record's become parts of it (``record_parts.py``; ``crowded_records.py`` where there are too many).
4. ``relink.relink`` loads all that a change can touch, asks ``linking.link`` (pure: D3) who is one person and
   who holds each number, and writes what moved, with history.
5. A40 and the decisions of identity officers (``merges.py``) change what linking is told, then do step 4.
6. Questions go through ``queries.IdentityReads`` to ``rows.persons``; officers' through ``officer_queue``.
"""
