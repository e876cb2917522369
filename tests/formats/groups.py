"""What pyarrow and DuckDB say of the row groups of Parquet files: one JSON object a line for each column of each."""

import glob
import json
import sys

import duckdb
import pyarrow.parquet

for file in sorted(glob.glob(f"{sys.argv[1]}/day=*/*", recursive=True)):
    metadata = pyarrow.parquet.read_metadata(file)
    # DuckDB reads the same statistics by itself.
    by_duckdb = dict(
        ((group, name), (least, most))
        for group, name, least, most in duckdb.connect().execute(
            "select row_group_id, path_in_schema, stats_min_value, stats_max_value from parquet_metadata(?)", [file]
        ).fetchall()
    )
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for at in range(group.num_columns):
            column = group.column(at)
            statistics = column.statistics
            name = column.path_in_schema
            print(json.dumps({
                "file": file,
                "group": number,
                "rows": group.num_rows,
                "column": name,
                "least": str(statistics.min) if statistics.has_min_max else None,
                "most": str(statistics.max) if statistics.has_min_max else None,
                "nulls": statistics.null_count if statistics.has_null_count else None,
                "pages": column.has_column_index and column.has_offset_index,
                "duckdb": by_duckdb[(number, name)],
            }))
