"""Write the event streams into Postgres, exactly once.

Imports engine and router.
"""
