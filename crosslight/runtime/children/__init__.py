"""Bounded children: processes that read hostile bytes, and can do nothing else (D27, ADR-0042).

``confine`` what a child gives up; ``inside`` what runs in it; ``child`` its owner's end; ``wire`` what passes
between the two. Whose turn it is, and what a child's end means, is :mod:`crosslight.runtime.workers`'s.
"""
