"""Match orders: the pure, deterministic kernel, and the shell that runs one shard.

Imports nothing of ours and can be used as a library, without Redis.
"""
