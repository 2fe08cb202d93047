"""Who saw what. The store is :mod:`crosslight.runtime.audit`, the same as the nodes'; its forms are in its ``show``."""
