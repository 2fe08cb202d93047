"""How much a region asks for, how long it waits, and what must be bought: closed forms, queues and a graph.

The order of calls: ``forecast.answer`` reads a ``Topology`` and the measured ``ServiceTimes``; ``network``
joins the places, ``demand`` says what comes in which hour, ``queues`` how long it waits, ``purchase`` what
that needs, ``outages`` what happens when a line fails; ``report`` writes it down. None of these runs the
product itself: ``comparison`` sets it beside a region that runs.
"""
