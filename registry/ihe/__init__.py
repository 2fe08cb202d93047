"""IHE transactions at the registry, one file for each: ITI-8, 18, 42, 43, 57, 62 and RAD-69.

The SOAP address and the admission of a caller's message are shared by them.
"""
