"""Deliberately broken variants of the exchange, each of which a named test or the torture finds."""
