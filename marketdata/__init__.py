"""Publish the market: trades, best bid and offer, depth, snapshots, ticker, candles.

Imports engine and router.
"""
