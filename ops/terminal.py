"""The terminal: lines that stay, and a block below them that is redrawn in place.

Where the output is no terminal only the lines are printed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

_UP = "\x1b[{}F"
_CLEAR_BELOW = "\x1b[J"


class Terminal:
    """Where one command prints.

    Args:
        stream: standard output, or a test's.

    Attributes:
        interactive: whether a block can be redrawn in place.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.interactive = self._stream.isatty()
        self._block: list[str] = []
        self._drawn = 0

    def say(self, text: str) -> None:
        """Print lines that stay, above the block."""
        self._write(text + "\n")

    def show(self, lines: Sequence[str]) -> None:
        """Replace the block; no lines remove it. Does nothing where there is no terminal."""
        if self.interactive:
            self._block = list(lines)
            self._write("")

    def _write(self, text: str) -> None:
        """Erase the block, write, and draw the block again: in one write, so that it is steady."""
        erase = _UP.format(self._drawn) + _CLEAR_BELOW if self._drawn else ""
        # A wrapped line would count as two when the block is erased.
        columns, rows = shutil.get_terminal_size()
        block = [line[: columns - 1] + "\n" for line in self._block[: max(1, rows - 1)]]
        self._drawn = len(block)
        self._stream.write(erase + text + "".join(block))
        self._stream.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns: the first to the left, the others to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
