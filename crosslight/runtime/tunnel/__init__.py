"""Connections carried by a gRPC call that the other side made: what node and registry share of it (ADR 0058).

``mux.py`` is what both ends know of the connections in one tunnel, without IO; ``carrier.py`` moves their
bytes between sockets of this process and the call, over as many calls as it takes.
"""
