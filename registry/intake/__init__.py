"""The waist of what comes in: every submission, from whichever face, ends in ``accept.py``.

It is checked, given its patient, committed; then whoever waits for changes is told.
"""
