"""The index: which member holds which study for which patient record (D1), on SQLite or PostgreSQL.

The order of calls of a write, in the caller's transaction::

    IndexStore.work makes a Work                                              store.py, write.py
    lock_writers, lock: large batches go alone, members' feeds are locked     member_feeds.py
    prefetch: what the members have of the studies, with tombstones           read.py, holding_rows.py
    publish, add_entry, set_state, move, withdraw: changes in memory          write.py, foreign_entries.py
    flush: numbers of patients' texts                                         patient_texts.py
    Flush.run: locators before rows, past versions, then the changes          flush.py, changes.py
    after the commit the Follower tells who has to know                       change_follower.py

``README.md`` says more.
"""
