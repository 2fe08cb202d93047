"""Whoever imports this has all that reads DICOM loaded: for a bounded child, and for what children are forked
from, so that each need not do it anew.
"""

from crosslight.standards.dicom.pixels.readied import ready

ready()
