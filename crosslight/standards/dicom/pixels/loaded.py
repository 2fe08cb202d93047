"""Whoever imports this has all that reads DICOM loaded.

For a bounded child, and for the process that children are forked from, so that each need not do it anew.
"""

from crosslight.standards.dicom.pixels.readied import ready

ready()
