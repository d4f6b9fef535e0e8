"""Connect the processes: every Redis key, channel, script and stream of the system.

Maps a symbol to its shard. Imports engine.
"""
