"""Folders and object stores of Part 10 files beside which a node stands; nothing of them is copied.

``folder.py`` and ``object_store.py`` list and read (``listing.py`` says what is asked of them), ``heads.py``
makes headers of what is read, ``follow.py`` keeps the node's rows right, ``taking.py`` decides what each
header becomes, ``rows.py`` remembers every file, ``giving.py`` gives objects out.
"""
