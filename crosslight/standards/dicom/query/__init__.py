"""Query and Retrieve over DIMSE (PS3.4 C): what an Identifier asks, and what one answers. Pure."""
