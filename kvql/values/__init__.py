"""The types of KVQL's values and how each looks in Python, in a literal and on a screen (LANGUAGE §1, §2).

===========  =====================  ==========================================================
type         in Python              note
===========  =====================  ==========================================================
NULL         ``None``
BOOLEAN      ``bool``
INTEGER      ``int``                64 bits, signed
DECIMAL      ``decimal.Decimal``    exact, finite, at most 1,000 digits
FLOAT        ``float``              IEEE double, NaN and infinities included
TEXT         ``str``                no lone surrogates
BYTES        ``bytes``
TIMESTAMP    ``datetime``           aware, UTC, microseconds
JSON         ``Json``               an object or an array, kept as text
INTERVAL     ``timedelta``          in expressions only; never stored
===========  =====================  ==========================================================

``limits`` holds what is true of every value, ``times``, ``texts`` and ``json_text`` what is true of one type, ``types``
the table above and the way from and to Python, ``literals`` how a value is shown and read.
"""

from kvql.values.json_text import Json
from kvql.values.limits import (
    DECIMAL_DIGITS_MAX,
    EXACT,
    INTEGER_MAX,
    INTEGER_MIN,
    KEY_BYTES_MAX,
    NAMESPACE_LENGTH_MAX,
    NESTING_MAX,
    VALUE_BYTES_MAX,
    check_decimal,
)
from kvql.values.literals import bare_value, bare_values, display, literal
from kvql.values.texts import quote
from kvql.values.times import (
    EPOCH,
    from_micros,
    interval_of,
    interval_text,
    parse_interval,
    parse_timestamp,
    timestamp_text,
    to_interval_micros,
    to_micros,
    utc,
)
from kvql.values.types import Type, Value, encoded_size, from_python, to_python, type_of

__all__ = [
    "DECIMAL_DIGITS_MAX",
    "EPOCH",
    "EXACT",
    "INTEGER_MAX",
    "INTEGER_MIN",
    "KEY_BYTES_MAX",
    "NAMESPACE_LENGTH_MAX",
    "NESTING_MAX",
    "VALUE_BYTES_MAX",
    "Json",
    "Type",
    "Value",
    "bare_value",
    "bare_values",
    "check_decimal",
    "display",
    "encoded_size",
    "from_micros",
    "from_python",
    "interval_of",
    "interval_text",
    "literal",
    "parse_interval",
    "parse_timestamp",
    "quote",
    "timestamp_text",
    "to_interval_micros",
    "to_micros",
    "to_python",
    "type_of",
    "utc",
]
