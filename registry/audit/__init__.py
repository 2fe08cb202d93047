"""Who saw what: store and export."""
