"""Archives of others that the demo's nodes stand beside (``crosslight demo --foreign``)."""
