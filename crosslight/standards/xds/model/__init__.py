"""The metadata as values: registry objects, publications, vocabulary; no other room of XDS is imported
here."""
