"""The waist of what comes in: every submission, from whichever face, is committed by ``accept.py``.

It imports no face. The order of calls::

    a face (ihe/iti42, 57, 62; link/feed) makes a Submission of acts      submission.py
    Acceptor.accept, accept_many: it becomes part of a batch              accept.py, grouping.py
    Batch.begin locks members, reads what there is of their studies       batch.py, index/write.py
    Batch.run, for each submission:
        by_the_standard: ITI-42's rules, and what follows from them       generic_objects.py, relations.py
        each act: its patient record                                      study_patients.py
        each act: its place among versions, then the index                batch.py, checks.py
        apply: what the acts caused beside themselves                     generic_objects.py
    Batch.finish writes persons, rows, changes; compares headers          identity/batch.py, index/flush.py
    after the commit: counts, and whoever waits for changes               accept.py

Feeds of patients have a way of their own, ``patients.py``. What enrichment learns comes in by
``Acceptor.update_detail``, ``document_read`` and ``no_manifest`` (``holder_answers.py``, and
``manifest_records.py``, which is pure).
"""
