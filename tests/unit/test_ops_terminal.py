"""The terminal's block, and tables."""

from __future__ import annotations

import io

from ops.terminal import Terminal, table


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_only_lines_are_printed() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream)
    assert not terminal.interactive
    terminal.show(["block"])
    terminal.say("line")
    terminal.show([])
    assert stream.getvalue() == "line\n"


def test_a_block_is_erased_and_drawn_again_below_lines() -> None:
    screen = Screen()
    terminal = Terminal(screen)
    terminal.show(["one", "two"])
    terminal.say("line")
    terminal.show(["three"])
    terminal.show([])
    terminal.say("end")
    two_up, one_up = "\x1b[2F\x1b[J", "\x1b[1F\x1b[J"
    assert screen.getvalue() == (f"one\ntwo\n{two_up}line\none\ntwo\n{two_up}three\n{one_up}end\n")


def test_a_block_is_cut_to_the_screen() -> None:
    screen = Screen()
    Terminal(screen).show(["x" * 10_000] * 10_000)
    lines = screen.getvalue().splitlines()
    assert len(lines) < 10_000
    assert all(len(line) < 10_000 for line in lines)


def test_a_table_aligns_its_columns() -> None:
    assert table(("name", "n"), [("a", "10"), ("long name", "7")]) == [
        "name        n",
        "a          10",
        "long name   7",
    ]
    assert table(("name", "n"), []) == ["name  n"]
