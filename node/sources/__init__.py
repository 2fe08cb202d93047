"""Archives of others beside which a node stands: their studies are listed, nothing of them is copied.

``upstream.py`` says what is asked of one, ``dicomweb.py`` asks it, ``follow.py`` keeps the node's rows right
about it, ``store.py`` remembers how far that is. The rows themselves are the archive's
(``node/archive/elsewhere.py``).
"""
