"""Tests of shardex; they run from the checkout: `make test`."""
