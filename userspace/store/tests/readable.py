#!/usr/bin/env python3
"""Reads the catalog of an archive the way others do: with DuckDB and with pyarrow.

    readable.py ARCHIVE

Prints the number of rows of each table. Exits with 1 if one of the two cannot read a table, if they
disagree, or if a column has not the type that docs/catalog.md says.
"""

import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset

TEXT, TIME, INT, FLOAT, BOOL = "VARCHAR", "TIME", "BIGINT", "DOUBLE", "BOOLEAN"
PYARROW = {TEXT: pa.string(), TIME: pa.timestamp("us", "UTC"), INT: pa.int64(), FLOAT: pa.float64(), BOOL: pa.bool_()}
DUCKDB = {TIME: "TIMESTAMP WITH TIME ZONE"}

# Columns that a search relies on; the id comes first.
TABLES = {
    "calls": {"call_uid": TEXT, "start": TIME, "call_id": TEXT, "conversation_id": TEXT, "from_user": TEXT,
              "to_user": TEXT, "answered": TIME, "ended": TIME, "duration_s": FLOAT, "status": INT, "joined": BOOL},
    "recordings": {"recording_id": TEXT, "start": TIME, "call_uid": TEXT, "call_id": TEXT, "conversation_id": TEXT,
                   "from_user": TEXT, "to_user": TEXT, "duration_s": FLOAT, "file": TEXT, "trigger": TEXT,
                   "codecs": TEXT, "sample_rate": INT, "lost": INT, "concealed_ms": INT, "joined": BOOL},
    "streams": {"stream_id": TEXT, "start": TIME, "call_uid": TEXT, "call_id": TEXT, "codecs": TEXT, "ssrc": INT,
                "packets": INT, "lost": INT, "jitter_ms": FLOAT, "mos": FLOAT},
    "events": {"event_id": TEXT, "start": TIME, "call_uid": TEXT, "call_id": TEXT, "kind": TEXT, "outcome": TEXT,
               "text": TEXT},
    "quality": {"quality_id": TEXT, "start": TIME, "call_uid": TEXT, "call_id": TEXT, "stream_id": TEXT, "lost": INT,
                "mos": FLOAT, "round_trip_ms": FLOAT},
}


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 1
    archive, wrong = Path(sys.argv[1]), []
    for table, columns in TABLES.items():
        directory = archive / "catalog" / table
        if not any(directory.glob("day=*/part-*.parquet")):
            wrong.append(f"{table}: no part in {directory}")
            continue
        by_duckdb, found = with_duckdb(directory, columns)
        by_pyarrow, more = with_pyarrow(directory, columns)
        wrong += [f"{table}: {problem}" for problem in found + more]
        if by_duckdb != by_pyarrow:
            wrong.append(f"{table}: DuckDB counts {by_duckdb} rows, pyarrow {by_pyarrow}")
        print(table, by_duckdb)
    if not wrong and (lost := missing_files(archive)):
        wrong += [f"recordings: no file {name}" for name in lost]
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


def with_duckdb(directory: Path, columns: dict) -> tuple[int, list]:
    pattern = str(directory / "**" / "*.parquet")
    duckdb.sql("SET TimeZone = 'UTC'")
    rows = duckdb.sql(f"SELECT * FROM read_parquet('{pattern}', hive_partitioning = true)")
    types, wrong = dict(zip(rows.columns, map(str, rows.types))), []
    for name, expected in columns.items():
        found = types.get(name)
        if found != DUCKDB.get(expected, expected):
            wrong.append(f"DuckDB reads {name} as {found}, not {expected}")
    if types.get("day") != "DATE":
        wrong.append(f"DuckDB reads day as {types.get('day')}, not DATE")
    if wrong:
        return 0, wrong
    id = next(iter(columns))
    total, ids, days = rows.aggregate(
        f"count(*), count(DISTINCT {id}), count(*) FILTER (date_trunc('day', start)::DATE <> day)"
    ).fetchall()[0]
    if total != ids:
        wrong.append(f"{total} rows, but {ids} different values of {id}")
    if days:
        wrong.append(f"{days} rows are in the partition of another day")
    return total, wrong


def with_pyarrow(directory: Path, columns: dict) -> tuple[int, list]:
    data = pa.dataset.dataset(directory, format="parquet", partitioning="hive", exclude_invalid_files=False)
    wrong = []
    for name, expected in columns.items():
        found = data.schema.field(name).type if name in data.schema.names else None
        if found != PYARROW[expected]:
            wrong.append(f"pyarrow reads {name} as {found}, not {PYARROW[expected]}")
    rows = 0 if wrong else data.to_table().num_rows
    return rows, wrong


def missing_files(archive: Path) -> list:
    data = pa.dataset.dataset(archive / "catalog" / "recordings", format="parquet", partitioning="hive")
    return [name for name in data.to_table(["file"])["file"].to_pylist() if not (archive / name).is_file()]


sys.exit(main())
