"""Crosslight: what a node, a registry and their clients share.

``standards`` is pure (bytes and objects in, objects and bytes out); ``runtime`` does IO; ``pb`` is generated;
``client`` asks a registry or a node as an outsider would. Nothing here imports ``node`` or ``registry``.
"""

__version__ = "0.2.0"
