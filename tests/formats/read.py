"""Reads a folder of the loader's objects as their users would, with DuckDB and with pyarrow, and
prints what each saw: one JSON object a line, under the reader's name."""

import glob
import json
import sys

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

kind, folder, *more = sys.argv[1:]
# A raw line is the record's value, which is JSON here.
kind = "ndjson" if kind == "raw" else kind
COLUMNS = ["n", "f", "ok", "t", "s", "_rest"] + more
files = sorted(glob.glob(f"{folder}/day=*/*", recursive=True))


def millis(value):
    """Times as Unix milliseconds, whatever the reader makes of them."""
    if hasattr(value, "timestamp"):
        return round(value.timestamp() * 1000)
    return value


def show(reader, rows):
    for row in rows:
        row = {name: millis(row.get(name)) for name in COLUMNS}
        print(json.dumps({"reader": reader, "row": row}))


def by_duckdb():
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    source = {
        "ndjson": "read_json(?, format='newline_delimited', columns={n: 'BIGINT', f: 'DOUBLE', "
        "ok: 'BOOLEAN', t: 'VARCHAR', s: 'VARCHAR'})",
        "csv": "read_csv(?, header=true, columns={'n': 'BIGINT', 'f': 'DOUBLE', 'ok': 'BOOLEAN', "
        "'t': 'TIMESTAMPTZ', 's': 'VARCHAR', '_rest': 'VARCHAR'}, allow_quoted_nulls=false)",
        "parquet": "read_parquet(?, hive_partitioning=false)",
    }[kind]
    relation = db.execute(f"select * from {source}", [files])
    names = [column[0] for column in relation.description]
    return [dict(zip(names, row)) for row in relation.fetchall()]


def by_pyarrow():
    rows = []
    for file in files:
        if kind == "parquet":
            table = pa.parquet.read_table(file, partitioning=None)
        elif kind == "csv":
            types = {
                "n": pa.int64(), "f": pa.float64(), "ok": pa.bool_(), "s": pa.string(),
                "t": pa.timestamp("ms", "UTC"), "_rest": pa.string(),
            }
            table = pa.csv.read_csv(
                pa.input_stream(file),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    column_types=types, null_values=[""], strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        else:
            fields = [("n", pa.int64()), ("f", pa.float64()), ("ok", pa.bool_()),
                      ("t", pa.string()), ("s", pa.string())]
            table = pa.json.read_json(
                pa.input_stream(file),
                parse_options=pa.json.ParseOptions(
                    explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"
                ),
            )
        rows += table.to_pylist()
    return rows


show("duckdb", by_duckdb())
show("pyarrow", by_pyarrow())
