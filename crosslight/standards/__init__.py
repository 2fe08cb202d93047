"""Pure codecs and models of the standards: no sockets, files, clock or event loop."""
