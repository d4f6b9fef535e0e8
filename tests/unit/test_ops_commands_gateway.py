"""``shardex gateway``: what it may be called."""

from __future__ import annotations

import pytest

from ops.__main__ import main


@pytest.mark.parametrize("name", ["main", "Gateway-1", "gateway/1", "gateway-" + 40 * "x"])
def test_a_name_by_which_its_journal_is_no_gateway_s_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["gateway", "--name", name])
    assert caught.value.code == 2
    assert "--name: expected gateway and then letters, digits" in capsys.readouterr().err
