"""Whole numbers in requests: headers, query options, JSON and gRPC parameters."""

from runtime.errors import InputError

# Decimal digits of a number written as text: more than any body has bytes.
_MOST_DIGITS = 15

_MOST_BITS = 64


def whole_number(value: object, subject: str, *, from_text: bool = False) -> int:
    """Return ``value``, an integer of 0 or more.

    With ``from_text`` it is decimal digits, as headers and forms have them. Raises InputError for anything else.
    """
    if from_text and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
        return int(value)
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # Python does not print those of many digits
        raise InputError(f"{subject}: expected a whole number, got one of {value.bit_length()} bits. Use another.")
    if from_text or not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{subject}: expected a whole number, got {value!r:.42}. Change it to one of 0 or more.")
    return value
