"""Drills: what goes wrong in a region, done to real processes, with a verdict. One file per drill.

``table.py`` lists them, ``scene.py`` is what each plays on, ``record.py`` what it leaves behind.
"""
