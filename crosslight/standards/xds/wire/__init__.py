"""Bytes: ebRIM, SOAP, MTOM and the messages of each transaction."""
