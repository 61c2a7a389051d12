"""COPY text to Arrow: pyarrow's C++ reader first, an exact slow path for the rows it refuses."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pyarrow.csv as pacsv

from runner.errors import Undecodable
from runner.rowhash import NULL, SEPARATOR
from runner.source import Scan

_BOM = b"\xef\xbb\xbf"


class Decoder:
    """Decodes whole rows of one COPY stream.

    The stream is CSV with the separator and the NULL of ``runner.rowhash``; the server quotes a value that equals it.

    Args:
        scan: What was selected; its columns in their order.

    Attributes:
        exact: Whether every value of the last batch is what its text says.
    """

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.exact = False
        self.schema = scan.arrow_schema
        self._types = [_wire_type(column.type) for column in scan.columns]
        self._names = [f"{index}" for index in range(len(scan.columns))]
        # A float is hashed by its bits; a line of one column may be quoted for being the end marker of COPY.
        self._hashed_as_sent = len(self._types) > 1 and not any(map(pa.types.is_floating, self._types))

    def decode(self, data: bytes) -> pa.RecordBatch:
        """Decode whole rows.

        Raises:
            Undecodable: A value cannot arrive as it left, and the table does not say what to do.
        """
        self.exact = True
        try:
            table = self._read(data, self._types)
            arrays = [chunked.combine_chunks() for chunked in table.columns]
        except pa.ArrowInvalid:
            self.exact = False
            arrays = self._slowly(data)
        arrays = [
            _unhex(array) if column.type == pa.binary() else array
            for array, column in zip(arrays, self.scan.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays([_flat(array) for array in arrays], schema=self.schema)

    def lines(self, data: bytes, rows: int) -> pa.Array | None:
        """Return rows that were decoded as the lines they are; None where their hash is of another text."""
        if not self.exact or not self._hashed_as_sent:
            return None
        try:
            table = pacsv.read_csv(
                _opened(data),
                _whole(data, ["line"]),
                # As good as no delimiter: where it occurs after all, the reader refuses the batch.
                pacsv.ParseOptions(delimiter="\x01", quote_char=False, ignore_empty_lines=False),
                pacsv.ConvertOptions(check_utf8=False, column_types={"line": pa.string()}),
            )
        except pa.ArrowInvalid:
            return None
        # A value with an end of line in it is two lines here.
        return table["line"].combine_chunks() if table.num_rows == rows else None

    def _read(self, data: bytes, types: list[pa.DataType]) -> pa.Table:
        return pacsv.read_csv(
            _opened(data),
            _whole(data, self._names),
            pacsv.ParseOptions(delimiter=SEPARATOR, newlines_in_values=True, ignore_empty_lines=False),
            pacsv.ConvertOptions(
                check_utf8=False,  # the server converts to UTF-8 and checks what it sends
                column_types=dict(zip(self._names, types, strict=True)),
                null_values=[NULL],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )

    def _slowly(self, data: bytes) -> list[pa.Array]:
        """Decode column by column; where the reader refuses a column, value by value."""
        try:
            raw = self._read(data, [pa.binary()] * len(self._names))
        except pa.ArrowInvalid as error:
            raise Undecodable(f"A batch of rows cannot be parsed: {error}.") from None
        arrays = []
        for column, chunked in zip(self.scan.columns, raw.columns, strict=True):
            values = chunked.combine_chunks()
            wire = _wire_type(column.type)
            try:
                text = values.cast(pa.string())
            except pa.ArrowInvalid:
                raise Undecodable(
                    f"The column {column.name!r} holds bytes that are not UTF-8.",
                    guidance="Repair the values at the source, or leave the column out with columns: "
                    f"{{{column.name}: drop}}.",
                    column=column.name,
                ) from None
            if wire == pa.string():
                arrays.append(text)
            else:
                parsed = [self._value(item, wire, column.name) for item in text.to_pylist()]
                arrays.append(pa.array(parsed, type=wire))
        return arrays

    def _value(self, text: str | None, wire: pa.DataType, column: str) -> object:
        if text is None:
            return None
        try:
            return _parse(text, wire)
        except (ValueError, ArithmeticError, OverflowError):
            if self.scan.special == "null":
                return None
            raise Undecodable(
                f"The column {column!r} holds {text!r}, which a {wire} cannot hold.",
                guidance=f"Move it as text (columns: {{{column}: text}}), or set `special: 'null'` for the table.",
                column=column,
            ) from None


def _opened(data: bytes) -> pa.BufferReader:
    # The reader takes the first byte order mark for its own; one at the start belongs to a value.
    return pa.BufferReader(_BOM + data if data.startswith(_BOM) else data)


def _whole(data: bytes, names: list[str]) -> pacsv.ReadOptions:
    return pacsv.ReadOptions(use_threads=False, block_size=len(data) + len(_BOM) + 1, column_names=names)


def _parse(text: str, wire: pa.DataType) -> object:
    if pa.types.is_boolean(wire):
        return text == "t"
    if pa.types.is_integer(wire):
        return int(text)
    if pa.types.is_floating(wire):
        return float(text)
    if pa.types.is_decimal(wire):
        value = decimal.Decimal(text)
        if not value.is_finite():
            raise ValueError(text)
        return value
    if pa.types.is_date(wire):
        return datetime.date.fromisoformat(text)
    if pa.types.is_time(wire):
        return datetime.time.fromisoformat(text)
    return datetime.datetime.fromisoformat(text)


def _wire_type(arrow: pa.DataType) -> pa.DataType:
    """Return the type to read: bytea comes as hex text and is turned into bytes afterwards."""
    return pa.string() if arrow == pa.binary() else arrow


def _unhex(text: pa.Array) -> pa.Array:
    r"""Turn ``\x…`` text into bytes, all values at once."""
    import pyarrow.compute as pc  # it takes as long to import as pyarrow itself

    digits = pc.utf8_slice_codeunits(text, 2) if len(text) else text
    offsets_buffer, data = digits.buffers()[1], digits.buffers()[2]
    if digits.offset or data is None:
        return pa.array([None if v is None else bytes.fromhex(v) for v in digits.to_pylist()], type=pa.binary())
    offsets = pa.Array.from_buffers(pa.int32(), len(digits) + 1, [None, offsets_buffer])
    start, end = offsets[0].as_py(), offsets[-1].as_py()
    raw = bytes.fromhex(data.to_pybytes()[start:end].decode("ascii"))
    halved = pc.divide(pc.subtract(offsets, start), 2).cast(pa.int32())
    return pa.Array.from_buffers(
        pa.binary(), len(digits), [digits.buffers()[0], halved.buffers()[1], pa.py_buffer(raw)]
    )


def _flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
