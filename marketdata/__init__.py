"""Publish the market: trades, best bid and offer, depth, snapshots, ticker, candles.

Imports engine and router. `docs/market-data.md` describes what comes out.

    errors.py      what can be wrong with what is kept
    updates.py     Update, Phase: what one output means to the public
    feed.py        SymbolFeed: outputs become numbered updates; Checkpoint
    candles.py     CandleBook: candles of four intervals and the 24 h ticker
    board.py       Board: what stands in one symbol's keys
    feed_codec.py  the public messages and their JSON
    replica.py     MarketReplica: the subscriber's half, without a connection
    settings.py    [marketdata] in exchange.toml
    store.py       MarketStore: reads and writes the keys, with the position
    publisher.py   the ring's first consumer: pub/sub and heartbeats
    keeper.py      the ring's second consumer: boards and their saving
    service.py     MarketDataService: readers, ring, consumers; the process
    subscriber.py  MarketSubscriber: a connection with a replica per symbol
"""
