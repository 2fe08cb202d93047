"""XDS.b and XDS-I.b: ebRIM metadata, SOAP with WS-Addressing and MTOM, stored queries, RAD-69."""
