"""Speak FIX 4.4 with clients: sessions, order entry, execution reports.

Imports engine and router.
"""
