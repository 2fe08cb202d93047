"""The upper layer protocol (PS3.8): associations and data in PDUs, as bytes and values."""
