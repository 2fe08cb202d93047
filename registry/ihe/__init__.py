"""IHE transactions at the registry, one file for each: ITI-8, 18, 42, 43, 57, 62 and RAD-69.

Those over SOAP are transactions of ``crosslight.runtime.soap.endpoint``: parse, ask or submit, render. What
they share: ``admission`` (who may submit), ``coverage`` (how an answer says what it lacks),
``retrieve_merge`` (members' streams as one).
"""
