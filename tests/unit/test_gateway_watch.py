"""Reading Redis' memory."""

from __future__ import annotations

import pytest

from gateway.watch import memory_is_low


@pytest.mark.parametrize(
    ("used", "limit", "low"),
    [(80, 100, False), (81, 100, True), (10**9, 0, False), (120, 100, True)],
)
def test_memory_is_low_beyond_the_percentage_of_a_limit(used: int, limit: int, low: bool) -> None:
    info = b"# Memory\r\nused_memory:%d\r\nmaxmemory:%d\r\nmaxmemory_policy:noeviction\r\n"
    assert memory_is_low(info % (used, limit), 80) is low
