"""Splitting, making and changing whole messages."""

from __future__ import annotations

from gateway.fix_message import as_poss_dup, encode_fields, frame, split_fields, without_secrets


def fix(text: str) -> bytes:
    return text.replace("|", "\x01").encode()


def test_frame_gives_length_and_sum() -> None:
    assert frame(fix("35=0|34=2|")) == fix("8=FIX.4.4|9=10|35=0|34=2|10=166|")


def test_encode_fields_ends_each_field() -> None:
    assert encode_fields([(b"58", b"a=b"), (b"1", b"7")]) == fix("58=a=b|1=7|")


def test_a_piece_without_equals_sign_has_no_value() -> None:
    assert split_fields(frame(fix("35=0|58=a|b|1=|"))) == [
        (b"35", b"0"),
        (b"58", b"a"),
        (b"b", None),
        (b"1", b""),
    ]


def test_data_is_cut_by_its_length_and_by_soh_where_the_length_is_wrong() -> None:
    fields = split_fields(frame(fix("35=A|95=3|96=a|b|58=x|")))
    assert fields[2:] == [(b"96", fix("a|b")), (b"58", b"x")]
    for length in ("2", "99", "x", "9999999999"):
        fields = split_fields(frame(fix(f"35=A|95={length}|96=a|b|58=x|")))
        assert fields[2:] == [(b"96", b"a"), (b"b", None), (b"58", b"x")]


def test_secrets_are_blanked_even_with_the_delimiter_in_them() -> None:
    raw = frame(fix("35=A|553=alice|554=se|cret|95=3|96=a|b|108=30|"))
    blanked = without_secrets(raw)
    assert blanked[-7:] == raw[-7:]
    assert fix("35=A|553=alice|554=***|***|95=3|96=***|108=30|10=") in blanked


def test_resend_keeps_the_number_and_the_body() -> None:
    raw = frame(fix("35=8|49=X|56=7|34=9|52=20240102-12:00:00.000|58=35=8|"))
    assert as_poss_dup(raw, b"20240102-12:00:07.000") == frame(
        fix("35=8|49=X|56=7|34=9|43=Y|52=20240102-12:00:07.000|122=20240102-12:00:00.000|58=35=8|")
    )
