"""The waist of what comes in: every submission, from whichever face, is committed by ``accept.py``. It
imports no face.

::

    a face (ihe/iti42, 57, 62; link/feed) makes a Submission of Acts               acts.py
    Acceptor.accept, accept_many: it becomes part of a batch, often alone          accept.py, together.py
    Batch.begin locks the members, reads what there is of their studies            batch.py, index/write.py
    Batch.run, for each submission:
        by_the_standard: ITI-42's rules over what is registered, what follows      generic.py, relations.py,
            registered.py each act: its patient record, its place among versions, the index          batch.py,
            checks.py, identity/batch.py
        apply: what the acts caused beside themselves                              generic.py
    Batch.finish writes persons, rows and changes, then compares headers           identity/batch.py,
    index/flush.py after the commit: counts, and whoever waits for changes                        accept.py

Feeds of patients have a way of their own, ``patients.py``. What enrichment learns comes in by
``Acceptor.update_detail``, ``document_read`` and ``no_manifest`` (``holder_answers.py``, and
``manifest_records.py``, which is pure).
"""
