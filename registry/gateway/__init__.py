"""Routes a retrieve to the member that holds the study, and streams it."""
