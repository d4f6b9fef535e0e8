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
        self._erase()
        print(text, file=self._stream)
        self._draw()

    def show(self, lines: Sequence[str]) -> None:
        """Replace the block; no lines remove it. Does nothing where there is no terminal."""
        if not self.interactive:
            return
        self._erase()
        self._block = list(lines)
        self._draw()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(_UP.format(self._drawn) + _CLEAR_BELOW)
            self._drawn = 0

    def _draw(self) -> None:
        # A wrapped line would count as two when the block is erased.
        columns, rows = shutil.get_terminal_size()
        for line in self._block[: max(1, rows - 1)]:
            self._stream.write(line[: columns - 1] + "\n")
            self._drawn += 1
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
