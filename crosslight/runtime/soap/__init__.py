"""SOAP over aiohttp: server, client."""
