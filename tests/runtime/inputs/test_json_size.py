"""The memory of JSON's values is known before they are made, and never underestimated."""

import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InputError
from runtime.inputs.json_size import json_bytes, json_reason

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=40,
)


def allocated(text):
    tracemalloc.start()
    try:
        value = msgspec.json.decode(text)
        size, _ = tracemalloc.get_traced_memory()
        del value
        return size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", ["0", "999", "1.5", "[]", "{}", '{"a":0}', '""', '"a"', "[[]]", '{"a":{"b":[]}}'])
def test_many_tiny_values_take_no_more_than_reckoned(value):
    text = ("[" + ",".join([value] * 5000) + "]").encode()

    assert allocated(text) <= json_bytes(text) * 1.05 + 1000


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_any_value_takes_no_more_than_reckoned(value):
    # Many of it: one is lost in what the decoder itself allocates. The characters of texts are in the body already.
    text = msgspec.json.encode([value] * 200)

    assert allocated(text) <= json_bytes(text) * 1.1 + 2 * len(text) + 4000


@pytest.mark.parametrize("wide", ["\U0001f600", "\\ud83d\\ude00"])
def test_one_wide_character_widens_the_whole_text(wide):
    text = ('["' + "a" * 12_000_000 + wide + '"]').encode()

    assert allocated(text) <= json_bytes(text) + 2 * len(text)


def test_many_numbers_of_too_many_digits_are_refused():
    """Reading one takes quadratic time: 30 MB of them held the lock for over half a second."""
    with pytest.raises(InputError, match="too many digits"):
        json_bytes(b"[" + b",".join([b"9" * 3000] * 200) + b"]")
    assert json_bytes(b'["' + b"0" * 5000 + b'"]') < 1000
    assert json_bytes(b"[" + b",".join([b"-0.12345678901234567e-300"] * 1000) + b"]") < 50_000


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"a": NaN}', "JSON has no NaN, but null"),
        ('{"é": -Infinity}', "JSON has no Infinity, but null"),
        ('{"a": [True, 1]}', "JSON has no True, but true"),
        ("{'a': 1}", "JSON has no ', but \""),
        ('{"a": 1,}', ""),
    ],
)
def test_what_python_writes_instead_of_json_is_named(text, hint):
    with pytest.raises(msgspec.DecodeError) as raised:
        msgspec.json.decode(text)

    assert json_reason(raised.value, text) == f"{raised.value}{hint and ': '}{hint}"
    assert json_reason(raised.value, text.encode()) == json_reason(raised.value, text)


def test_half_of_a_character_is_no_truncated_text():
    for text, reason in (
        (r'{"a": "\ud83d"}', r"half of a character, \ud83d, whose"),
        (r'{"a": "\ud83d\ude00', "Input data was truncated"),
    ):
        with pytest.raises(msgspec.DecodeError) as raised:
            msgspec.json.decode(text)
        assert json_reason(raised.value, text).startswith(reason)
