"""Merging the rows of two databases: what differs, in the order of the key, whatever is in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ops.database_diff import DIFFERENCES_SHOWN_MAX, compare_rows
from persistence.table_rows import TableShape, unescaped

SHAPE = TableShape("t", (("name", "text"), ("n", "bigint"), ("value", "numeric")), 2)
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x08": "\\b", "\x0b": "\\v"}

Rows = dict[tuple[str, int], str]

# Names with what COPY escapes, and beyond ASCII: escaped, they would be in another order.
names = st.text(alphabet="ab\\\t\n\rzÄ€", max_size=3)
tables = st.dictionaries(
    st.tuples(names, st.integers(-20, 20)), st.sampled_from(["1", "2"]), max_size=12
)


def lines(rows: Rows) -> list[bytes]:
    """Return rows as COPY writes them, ordered as PostgreSQL orders them (COLLATE "C")."""
    ordered = sorted(rows, key=lambda key: (key[0].encode(), key[1]))
    return [
        f"{''.join(ESCAPES.get(c, c) for c in name)}\t{n}\t{rows[name, n]}\n".encode()
        for name, n in ordered
    ]


@given(tables, tables)
def test_all_differences_are_counted(a: Rows, b: Rows) -> None:
    found = compare_rows(SHAPE, iter(lines(a)), iter(lines(b)))
    assert (found.rows_a, found.rows_b) == (len(a), len(b))
    assert found.only_a == len(a.keys() - b.keys())
    assert found.only_b == len(b.keys() - a.keys())
    assert found.changed == sum(a[key] != b[key] for key in a.keys() & b.keys())
    assert found.is_equal == (a == b)
    count = found.only_a + found.only_b + found.changed
    assert len(found.first) == min(count, DIFFERENCES_SHOWN_MAX)


@given(names)
def test_a_field_of_copy_text_is_read_back(name: str) -> None:
    [line] = lines({(name, 1): "1"})
    assert unescaped(line.split(b"\t", 1)[0]).decode() == name


def test_a_difference_names_the_key_and_both_values() -> None:
    a = compare_rows(SHAPE, iter([b"x\t1\t5\n", b"y\t10\t\\N\n"]), iter([b"x\t1\t6\n"]))
    assert a.first == ["name x, n 1: value: A 5, B 6", "name y, n 10: only in A (value NULL)"]
