"""``python -m ops.fix_documents``: make what the documents for members say about messages anew.

Writes docs/FIX44-shardex.xml and the tables in docs/fix.md, of the data that the gateways check
messages by. A test fails where they are not current.
"""

from __future__ import annotations

from pathlib import Path

from ops.fix_tables import with_tables
from ops.fix_xml import dictionary_xml

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Write both."""
    (DOCS / "FIX44-shardex.xml").write_text(dictionary_xml(), encoding="utf-8")
    guide = DOCS / "fix.md"
    guide.write_text(with_tables(guide.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
