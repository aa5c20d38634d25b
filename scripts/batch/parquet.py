#!/usr/bin/env python3
"""Writes a Parquet file as CSV to standard output, a few thousand rows at a time.

    troupe batch --model churn customers.parquet        # runs this and reads what it writes
    parquet.py customers.parquet > customers.csv        # by hand

What the CSV holds is what a batch reads (docs/batches.md): a line of names, then a row a line. Numbers keep every bit (a
float of 32 bits is written as the double that it is), a null and a NaN are empty fields, true and false are 1 and 0,
texts stand in quotes, a dictionary's values are written out. A column of anything else is refused by its name.
"""

import argparse
import json
import os
import sys

CELLS = 65_536  # that are in memory as Arrow and as text at a time,
LEAST_ROWS = 512  # but of a wide file so many rows: each column of a batch costs time of its own
READ_AHEAD = 1 << 16  # bytes, of each column
FAILED, REFUSED = 1, 2


class Refused(Exception):
    """One line for the user: it can't be done as asked."""


class Failed(Exception):
    """One line for the user: it went wrong halfway."""


def need_pyarrow():
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        if error.name != "pyarrow" or not isinstance(error, ModuleNotFoundError):  # it is there, and broken
            raise Refused(f"{sys.executable} can't load pyarrow: {one_line(error)}")
        raise Refused(f"{sys.executable} lacks pyarrow, which reads Parquet: {sys.executable} -m pip install pyarrow "
                      "(into a virtual environment whose python3 comes first in PATH)")
    return pyarrow


def one_line(error):
    return " ".join(str(error).split())[:400]


def chosen(schema, features):
    """The columns to read: the features where all of them are there, whatever stands beside them; else all, so that a
    misspelt name is found."""
    names = schema.names
    if not names:
        raise Refused("the file has no columns")
    wanted = set(features)
    if features and wanted <= set(names):
        names = [name for name in names if name in wanted]
    for name in names:
        if names.count(name) > 1:
            raise Refused(f"column '{name}' is there twice")
    return names


def check(pa, schema, names):
    is_ = pa.types
    for name in names:
        kind = schema.field(name).type
        if is_.is_dictionary(kind):
            kind = kind.value_type
        if is_.is_nested(kind):
            raise Refused(f"column '{name}' is nested ({kind}); a feature is a number, a boolean or a text: give each part a "
                          "column of its own")
        text = any(test(kind) for test in (is_.is_string, is_.is_large_string, getattr(is_, "is_string_view", lambda _: False)))
        if not (text or is_.is_boolean(kind) or is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind)
                or is_.is_null(kind)):
            raise Refused(f"column '{name}' is of the type {kind}; a feature is a number, a boolean or a text: cast it, or leave "
                          "it out")


def as_written(pa, column, alone):
    """The column as write_csv is to write it."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_floating(kind):
        column = column.cast(pa.float64())
        if pa.compute.any(pa.compute.is_nan(column)).as_py():
            column = pa.compute.if_else(pa.compute.is_nan(column), pa.scalar(None, pa.float64()), column)
    elif pa.types.is_decimal(kind) or not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        column = column.cast(pa.string())
    if alone:  # a line of nothing is no row
        column = column.cast(pa.string()).fill_null("")
    return column


def write_all(data):
    data = memoryview(data)
    try:
        while data:
            data = data[os.write(1, data):]
    except BrokenPipeError:
        os._exit(FAILED)  # nobody reads on
    except OSError as error:
        raise Failed(f"can't be written as CSV: {error.strerror}")


def batches(file, names, skip):
    """The rows behind the first `skip`; row groups that hold none of them are not read."""
    groups = []
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if not groups and skip >= rows:
            skip -= rows
        else:
            groups.append(group)
    if not groups:
        return
    size = max(LEAST_ROWS, CELLS // len(names))
    for batch in file.iter_batches(batch_size=size, row_groups=groups, columns=names):
        drop = min(skip, batch.num_rows)
        skip -= drop
        if drop < batch.num_rows:
            yield batch.slice(drop)


def convert(options):
    pa = need_pyarrow()
    if not os.path.isfile(options.file):
        raise Refused("is not a file")
    try:
        # A column's bytes are read piece by piece, not a row group's at once.
        file = pa.parquet.ParquetFile(pa.OSFile(options.file), buffer_size=READ_AHEAD, pre_buffer=False)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise Refused(f"is not a Parquet file, or not a whole one: {one_line(error)}")
    names = chosen(schema, json.load(sys.stdin) if options.features else [])
    check(pa, schema, names)
    if options.skip > file.metadata.num_rows:
        raise Refused(f"has {file.metadata.num_rows} rows, not {options.skip}")
    if options.head:
        write_all(json.dumps({"rows": file.metadata.num_rows}).encode() + b"\n")
    write_all((",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n").encode())
    plain = pa.csv.WriteOptions(include_header=False)
    row = options.skip
    try:
        for batch in batches(file, names, options.skip):
            by_name = [batch.column(batch.schema.get_field_index(name)) for name in names]
            table = pa.table([as_written(pa, column, len(names) == 1) for column in by_name], names=[str(i) for i in range(len(names))])
            text = pa.BufferOutputStream()
            pa.csv.write_csv(table, text, plain)
            write_all(text.getvalue())
            row += batch.num_rows
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise Failed(f"can't be read behind row {row}: {one_line(error) or type(error).__name__}")
    if row != file.metadata.num_rows:
        raise Failed(f"ends behind row {row}, its footer says {file.metadata.num_rows} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--features", action="store_true", help="read names from standard input, a JSON list: only these "
                        "columns, if all of them are there")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N rows")
    parser.add_argument("--head", action="store_true", help="first a line of JSON: how many rows the file has")
    options = parser.parse_args()
    try:
        convert(options)
    except (Refused, Failed) as why:
        print(why, file=sys.stderr)
        sys.exit(REFUSED if isinstance(why, Refused) else FAILED)


if __name__ == "__main__":
    main()
