"""How a member is called: its addresses, its session with mutual TLS, its release token.

Nothing above knows an address of a member. A caller asks ``Reach`` whether the member may be asked now, has a
token minted for what is wanted, and opens the exchange: ``open`` (DICOMweb), ``stream`` or ``call`` (ITI-43,
RAD-69). A member that can be reached by a tunnel only becomes another connector in ``sessions``.
"""
