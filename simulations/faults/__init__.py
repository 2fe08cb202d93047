"""Real nodes and a real registry on virtual time, with faults by seed, and what must hold all the while.

``python -m simulations.faults 1-50`` plays seeds. ``plan`` makes of a seed what people do and what fails;
``machine`` lets a service crash at any statement of its databases and between a commit and its answer, or
leaves it no space; ``services`` starts, kills and restarts them; ``run`` plays a plan; ``invariants``
says what must hold, during it and when all is mended; ``shrink`` leaves of a plan that fails what it
needs to fail.
"""
