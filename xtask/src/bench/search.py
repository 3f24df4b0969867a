#!/usr/bin/env python3
"""Looks calls up with DuckDB, for `cargo xtask bench search`.

    search.py ARCHIVE

Each line of standard input asks for some look-ups, by the names of the options of `spantape search`; each line of
output has what they took and found. The first says which DuckDB it is.

    < {"by_day": false, "queries": [{"table": "calls", "party": "+49301234567", "since": "2025-03-01T00:00:00.000Z"}]}
    > {"answers": [{"ms": 12.345, "rows": 100}]}
"""

import json
import sys
import time
import warnings

import duckdb
import pyarrow  # noqa: F401, what is found is taken as Arrow, as the library gives it

# The metadata cache goes by one name in older versions and by another in newer ones.
SETTINGS = ["threads = 2", "TimeZone = 'UTC'", "enable_object_cache = true", "parquet_metadata_cache = true"]

# What began so many days before `since` is looked for.
LOOK_BACK_DAYS = 7


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 1
    # It advises `sql`, which binds a statement twice and so takes longer where little is found.
    warnings.filterwarnings("ignore", "Arrow output")
    connection = duckdb.connect()
    for setting in SETTINGS:
        try:
            connection.execute(f"SET {setting}")
        except duckdb.CatalogException:
            pass  # There is no such setting in this version.
    say({"duckdb": duckdb.__version__})
    for line in sys.stdin:
        asked = json.loads(line)
        statements = [statement(sys.argv[1], query, asked["by_day"]) for query in asked["queries"]]
        say({"answers": [answer(connection, sql) for sql in statements]})
    return 0


def answer(connection, sql: str) -> dict:
    begin = time.perf_counter()
    rows = connection.execute(sql).to_arrow_table().num_rows
    return {"ms": (time.perf_counter() - begin) * 1000, "rows": rows}


def statement(archive: str, query: dict, by_day: bool) -> str:
    pattern = text(f"{archive}/catalog/{query['table']}/day=*/*.parquet")
    source = f"read_parquet({pattern}, hive_partitioning = true)"
    columns = "day" if by_day else "*"
    parts = [f"SELECT {columns} FROM {source} WHERE {' AND '.join(all_of)}" for all_of in conditions(query)]
    rows = " UNION ALL ".join(parts)
    return f"SELECT day, count(*) FROM ({rows}) GROUP BY day" if by_day else rows


def conditions(query: dict) -> list:
    """What all must hold, for each part of the answer."""
    all_of = []
    if "call-id" in query:
        all_of.append(f"call_id = {text(query['call-id'])}")
    if "conversation" in query:
        all_of.append(f"conversation_id = {text(query['conversation'])}")
    if "since" in query:
        since = query["since"]
        all_of.append(f"ended >= TIMESTAMPTZ {text(since)} AND day >= DATE {text(since[:10])} - {LOOK_BACK_DAYS}")
    if "until" in query:
        until = query["until"]
        all_of.append(f"start < TIMESTAMPTZ {text(until)} AND day <= DATE {text(until[:10])}")
    if "party" not in query:
        return [all_of]
    # Where there is an OR, DuckDB asks neither statistics nor bloom filters: in two parts it is three times as fast.
    party = text(query["party"])
    return [[f"from_user = {party}", *all_of], [f"to_user = {party}", f"from_user <> {party}", *all_of]]


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def say(what: dict) -> None:
    print(json.dumps(what), flush=True)


sys.exit(main())
