"""Retrieves through the registry: who holds a study, and its bytes on from there to who asked (D11, D21).

Nothing is kept on the way. The order of calls::

    a face (dicomweb, portal) asks ``ask`` what may be given; the act is audited    ask/ask.py
    holders_of: the members whose copies agree; none: 404, 410; they differ: 409    holders.py, agreement.py
    Gateway.forward streams an answer on, Gateway.first gives it to be read here    forward.py
        Reach.mint, Reach.open: a token for the holder, then the request            reach/members.py
        the first good answer ends failing over; suspension of its holder cuts it   forward.py
        what a holder says of its answer is passed on from a list, or is a 502      answers.py

ITI-43 and RAD-69 merge answers of several holders and have a way of their own, ``ihe/retrieve_merge.py``.
"""
