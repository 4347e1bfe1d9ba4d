"""Malformed requests for every method, made from the API's descriptors, against a platform of its own."""
