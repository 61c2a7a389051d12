"""COPY text to Arrow: pyarrow's C++ reader first, an exact slow path for the rows it refuses."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from runner.errors import Undecodable
from runner.source import Scan

_BOM = b"\xef\xbb\xbf"


class Decoder:
    """Decodes whole rows of one COPY stream.

    Args:
        scan: What was selected; its columns in their order.
        null: The NULL token of the stream, random so that no value equals it unquoted.
    """

    def __init__(self, scan: Scan, null: str) -> None:
        self.scan = scan
        self.null = null
        self.schema = scan.arrow_schema
        self._types = [_wire_type(column.type) for column in scan.columns]
        self._names = [f"{index}" for index in range(len(scan.columns))]

    def decode(self, data: bytes) -> pa.RecordBatch:
        """Decode whole rows.

        Raises:
            Undecodable: A value cannot arrive as it left, and the table does not say what to do.
        """
        try:
            table = self._read(data, self._types)
            arrays = [chunked.combine_chunks() for chunked in table.columns]
        except pa.ArrowInvalid:
            arrays = self._slowly(data)
        arrays = [
            _unhex(array) if column.type == pa.binary() else array
            for array, column in zip(arrays, self.scan.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays([_flat(array) for array in arrays], schema=self.schema)

    def _read(self, data: bytes, types: list[pa.DataType]) -> pa.Table:
        if data.startswith(_BOM):
            # The reader takes the first byte order mark for its own; this one belongs to a value.
            data = _BOM + data
        return pacsv.read_csv(
            pa.BufferReader(data),
            pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=self._names),
            pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            pacsv.ConvertOptions(
                check_utf8=False,  # the server converts to UTF-8 and checks what it sends
                column_types=dict(zip(self._names, types, strict=True)),
                null_values=[self.null],
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
