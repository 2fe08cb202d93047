"""HL7 v2 patient feeds (ITI-8): ADT messages and their acknowledgements."""
