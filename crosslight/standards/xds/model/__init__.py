"""The metadata as values: registry objects, publications, vocabulary.

No other room of XDS is imported here.
"""
