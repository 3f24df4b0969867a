#!/usr/bin/env python3
"""Reads an archive that several recorders have written the way others do: each table as one, by its layout alone.

    run.py ARCHIVE [--skip ENGINE]...

ENGINE is duckdb, chdb (ClickHouse), spark, pyarrow or delta. What each of them finds is compared with what the parts
have when they are read one by one. Prints one line a check, and exits with 1 if one has failed. An engine that is not
installed has failed, unless it is skipped. tests/scale/requirements.txt has what is to be installed.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq
except ImportError as error:
    sys.exit(f"pyarrow is not installed ({error}): pip install -r tests/scale/requirements.txt")

# A table, its id, and a column to add up.
TABLES = {
    "calls": ("call_uid", "duration_s"),
    "recordings": ("recording_id", "duration_s"),
    "streams": ("stream_id", "duration_s"),
    "events": ("event_id", "source_port"),
    "quality": ("quality_id", "received"),
}
WITH_PARTIES = ("calls", "recordings")
DELTA = ("calls", "recordings")
PARTS = "day=*/node=*/part-*.parquet"
PARTITION = re.compile(r"day=(\d{4}-\d\d-\d\d)/node=([^/=]+)/part-[0-9a-f]{16}\.parquet")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("archive", type=Path)
    arguments.add_argument("--skip", action="append", default=[], choices=[*ENGINES, "delta"])
    arguments = arguments.parse_args()
    catalog = arguments.archive.resolve() / "catalog"

    report = Report()
    with report.check("layout") as say:
        say(layout(catalog))
    if report.failed:
        return 1
    expected = {}
    for table in TABLES:
        with report.check(f"parts {table}") as say:
            expected[table] = one_by_one(catalog / table)
            say(described(table, expected[table]))
    if expected.keys() != TABLES.keys():
        return 1
    question = Question(expected["recordings"] if expected["recordings"].num_rows else expected["calls"])

    for name, Engine in ENGINES.items():
        if name in arguments.skip:
            continue
        engine = None
        with report.check(name) as say:
            engine = Engine()
            say(f"version {engine.version}")
        for table in TABLES if engine else ():
            directory = catalog / table
            compare(report, f"{name} {table}", lambda: engine.open(directory), table, expected[table], question)
    for table in DELTA if "delta" not in arguments.skip else ():
        delta(report, catalog / table, expected[table], question, "duckdb" not in arguments.skip)
    print(f"{report.passed} checks passed, {report.failed} failed")
    return 1 if report.failed else 0


class Report:
    """One line a check."""

    passed = failed = 0

    @contextmanager
    def check(self, name: str):
        said, begun = [], time.monotonic()
        try:
            yield said.append
        except Exception as error:  # whatever an engine throws
            self.failed += 1
            text = " ".join(str(error).split())[:400]
            print(f"FAIL  {name}: {text or type(error).__name__}", flush=True)
        else:
            self.passed += 1
            print(f"ok    {name}: {', '.join(said)} ({time.monotonic() - begun:.2f} s)", flush=True)


class Wrong(Exception):
    """A check has failed."""


def layout(catalog: Path) -> str:
    days, nodes, parts = set(), set(), 0
    for table in TABLES:
        found = sorted((catalog / table).rglob("*.parquet"))
        if not found:
            raise Wrong(f"{table} has no parts in {catalog}")
        for path in found:
            name = path.relative_to(catalog / table).as_posix()
            if name.startswith("_delta_log/"):
                continue
            if not (partition := PARTITION.fullmatch(name)):
                raise Wrong(f"{table}/{name} is not day=…/node=…/part-….parquet")
            days.add(partition[1])
            nodes.add(partition[2])
            parts += 1
    if len(nodes) < 2:
        raise Wrong(f"there is one node alone: {', '.join(nodes)}")
    return f"nodes {', '.join(sorted(nodes))}; {len(days)} days, {parts} parts"


# What is looked for.


class Question:
    """A call and a caller that there are."""

    def __init__(self, rows: pa.Table):
        row = rows.sort_by("start").slice(0, 1).to_pylist()[0]
        self.call_id, self.from_user, self.day = row["call_id"], row["from_user"], row["day"]


def columns(table: str) -> list:
    id, measure = TABLES[table]
    parties = ["from_user"] if table in WITH_PARTIES else []
    return list(dict.fromkeys(["day", "node", id, "call_uid", "call_id", "start", measure, *parties]))


def one_by_one(directory: Path) -> pa.Table:
    """The rows of a table; day and node are told by the paths, and nothing else is relied on."""
    tables = []
    for path in sorted(directory.glob(PARTS)):
        day, node = PARTITION.fullmatch(path.relative_to(directory).as_posix()).groups()
        try:
            rows = pq.ParquetFile(path).read(columns(directory.name)[2:])
        except pa.ArrowException as error:
            raise Wrong(f"{path.name}: {error}") from error
        rows = rows.append_column("day", pa.repeat(pa.scalar(day), rows.num_rows))
        tables.append(rows.append_column("node", pa.repeat(pa.scalar(node), rows.num_rows)))
    return pa.concat_tables(tables)


def described(table: str, rows: pa.Table) -> str:
    """Also wants ids that are different within a node, and days that are those of the rows."""
    id = TABLES[table][0]
    nodes = rows.group_by("node").aggregate([([], "count_all"), (id, "count_distinct")]).sort_by("node").to_pylist()
    for node in nodes:
        if node["count_all"] != node[f"{id}_count_distinct"]:
            raise Wrong(f"{node['node']} has {node['count_all']} rows, {node[f'{id}_count_distinct']} values of {id}")
    days = pc.strftime(rows["start"], format="%Y-%m-%d")
    if wrong := pc.sum(pc.not_equal(days, rows["day"])).as_py():
        raise Wrong(f"{wrong} rows are in the partition of another day")
    counts = ", ".join(f"{node['node']} {node['count_all']}" for node in nodes)
    shared = rows.num_rows - pc.count_distinct(rows[id]).as_py()
    return f"{rows.num_rows} rows: {counts}" + (f"; {shared} of them are in two nodes" if shared else "")


def compare(report: Report, name: str, open_table, table: str, rows: pa.Table, question: Question) -> None:
    """What is opened can `types()`, `summary(table)` and `find(table, column, value, day)`."""
    parts, source = InMemory(rows), None
    with report.check(f"{name} summary") as say:
        source = open_table()
        if wrong := source.types():
            raise Wrong(wrong)
        found, expected = source.summary(table), parts.summary(table)
        if difference := different(found, expected):
            raise Wrong(difference)
        say(f"{sum(group[0] for group in found.values())} rows in {len(found)} partitions")
    if source is None:
        return
    asked = [("call_id", question.call_id, None)]
    if table in WITH_PARTIES:
        asked.append(("from_user", question.from_user, question.day))
    for column, value, day in asked:
        with report.check(f"{name} {column}") as say:
            found, expected = source.find(table, column, value, day), parts.find(table, column, value, day)
            if found != expected:
                raise Wrong(f"{value!r} is in {len(found)} rows, not in {len(expected)}, or in others")
            say(f"{len(found)} rows")


def different(found: dict, expected: dict) -> str | None:
    for key in sorted(found.keys() | expected.keys()):
        one, other = found.get(key), expected.get(key)
        if one is None or other is None or not all(map(same, one, other)):
            names = "rows, ids, calls, sum, first, last"
            return f"{' '.join(map(str, key))}: ({names}) are {one}, not {other}"
    return None


def same(one, other) -> bool:
    # The order in which floats are added up is not the same.
    return math.isclose(one, other, rel_tol=1e-9) if isinstance(one, float) else one == other


# The engines. Each opens a directory by its layout alone, without a word on columns or partitions.


class InMemory:
    """Rows as pyarrow has them. `day` may be text or a date."""

    def __init__(self, rows: pa.Table):
        self.rows = rows

    def types(self) -> str | None:
        return None

    def summary(self, table: str) -> dict:
        id, measure = TABLES[table]
        rows = self.rows
        # A group has a column named once, though it counts and adds up the same one.
        rows = pa.table({
            "day": rows["day"].cast(pa.string()), "node": rows["node"], "id": rows[id], "call": rows["call_uid"],
            "measure": rows[measure], "start": rows["start"].cast(pa.int64()),
        })
        groups = rows.group_by(["day", "node"]).aggregate([
            ([], "count_all"), ("id", "count_distinct"), ("call", "count_distinct"), ("measure", "sum"),
            ("start", "min"), ("start", "max"),
        ])
        names = ["count_all", "id_count_distinct", "call_count_distinct", "measure_sum", "start_min", "start_max"]
        return {(row["day"], row["node"]): tuple(row[name] for name in names) for row in groups.to_pylist()}

    def find(self, table: str, column: str, value: str, day: str | None) -> list:
        rows = self.rows.filter(pc.field(column) == value)
        if day:
            rows = rows.filter(pc.field("day").cast(pa.string()) == day)
        return sorted(rows[TABLES[table][0]].to_pylist())


class PyarrowDataset(InMemory):
    def __init__(self, dataset: ds.Dataset, table: str, day: pa.DataType):
        super().__init__(dataset.to_table(columns(table)))
        self.dataset, self.day = dataset, day

    def types(self) -> str | None:
        found = self.dataset.schema.field("day").type, self.dataset.schema.field("node").type
        return None if found == (self.day, pa.string()) else f"day is {found[0]}, node {found[1]}"

    def find(self, table: str, column: str, value: str, day: str | None) -> list:
        wanted = pc.field(column) == value
        if day:
            wanted &= pc.field("day") == pa.scalar(day).cast(self.day)
        id = TABLES[table][0]
        return sorted(self.dataset.to_table([id], filter=wanted)[id].to_pylist())


class Pyarrow:
    version = pa.__version__

    def open(self, directory: Path) -> PyarrowDataset:
        # Days are texts: pyarrow takes no partition for a date by itself.
        return PyarrowDataset(ds.dataset(directory, format="parquet", partitioning="hive"), directory.name, pa.string())


class Sql:
    """What is the same in all dialects. `run(sql, values)` puts values for `{0}`, `{1}` …"""

    text, micros, node = "VARCHAR", "epoch_us", ("VARCHAR",)

    def __init__(self, source: str):
        self.source = source

    def types(self) -> str | None:
        day, node = self.partition_types()
        return None if day.upper() == "DATE" and node in self.node else f"day is {day}, node {node}"

    def summary(self, table: str) -> dict:
        id, measure = TABLES[table]
        rows = self.run(f"""
            SELECT CAST(day AS {self.text}), CAST(node AS {self.text}), count(*), count(DISTINCT {id}),
                   count(DISTINCT call_uid), sum({measure}), {self.micros}(min(start)), {self.micros}(max(start))
            FROM {self.source} GROUP BY day, node""", [])
        return {row[:2]: row[2:] for row in rows}

    def find(self, table: str, column: str, value: str, day: str | None) -> list:
        on_day = f" AND day = DATE '{day}'" if day else ""
        rows = self.run(f"SELECT {TABLES[table][0]} FROM {self.source} WHERE {column} = {{0}}{on_day}", [value])
        return sorted(row[0] for row in rows)


class DuckdbSource(Sql):
    def __init__(self, connection, source: str):
        super().__init__(source)
        self.connection = connection

    def partition_types(self) -> tuple:
        rows = self.connection.sql(f"SELECT day, node FROM {self.source}")
        return tuple(map(str, rows.types))

    def run(self, sql: str, values: list) -> list:
        return self.connection.execute(sql.format("?"), values).fetchall()


class Duckdb:
    def __init__(self):
        duckdb = needed("duckdb")
        self.version, self.connection = duckdb.__version__, duckdb.connect()

    def open(self, directory: Path) -> DuckdbSource:
        return DuckdbSource(self.connection, f"read_parquet({quoted(directory / PARTS)}, hive_partitioning = true)")

    def arrow(self, dataset: ds.Dataset) -> DuckdbSource:
        self.connection.register("dataset", dataset)
        return DuckdbSource(self.connection, "dataset")


class ChdbSource(Sql):
    text, micros, node = "String", "toUnixTimestamp64Micro", ("String", "LowCardinality(String)")

    def __init__(self, chdb, source: str):
        super().__init__(source)
        self.chdb = chdb

    def partition_types(self) -> tuple:
        types = self.chdb.query(f"DESCRIBE {self.source}", "JSONEachRow")
        types = [json.loads(line) for line in str(types).splitlines() if line]
        types = {row["name"]: row["type"] for row in types}
        return types["day"], types["node"]

    def run(self, sql: str, values: list) -> list:
        params = {f"v{i}": value for i, value in enumerate(values)}
        sql = sql.format(*(f"{{{name}:String}}" for name in params))
        # Its integers of 64 bits would be texts.
        sql += " SETTINGS output_format_json_quote_64bit_integers = 0"
        rows = str(self.chdb.query(sql, "JSONCompactEachRow", params=params))
        return [tuple(json.loads(line)) for line in rows.splitlines() if line]


class Chdb:
    def __init__(self):
        self.chdb = needed("chdb")
        self.version = str(self.chdb.query("SELECT version()", "TSV")).strip() + " of ClickHouse"

    def open(self, directory: Path) -> ChdbSource:
        return ChdbSource(self.chdb, f"file({quoted(directory / PARTS, True)}, Parquet)")


class SparkSource(Sql):
    text, micros, node = "STRING", "unix_micros", ("string",)

    def __init__(self, spark, directory: Path):
        super().__init__(directory.name)
        self.spark = spark
        self.rows = spark.read.option("pathGlobFilter", "part-*.parquet").parquet(str(directory))
        self.rows.createOrReplaceTempView(directory.name)

    def partition_types(self) -> tuple:
        types = dict(self.rows.dtypes)
        return types["day"], types["node"]

    def run(self, sql: str, values: list) -> list:
        return [tuple(row) for row in self.spark.sql(sql.format("?"), args=values).collect()]


class Spark:
    def __init__(self):
        sql = needed("pyspark.sql")
        java = java_version()
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = sql.SparkSession.builder.master("local[2]").config("spark.sql.session.timeZone", "UTC")
        for key, value in {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
                           "spark.log.level": "ERROR", "spark.sql.shuffle.partitions": "2"}.items():
            builder = builder.config(key, value)
        self.spark = builder.getOrCreate()
        self.version = f"{self.spark.version}, Java {java}"

    def open(self, directory: Path) -> SparkSource:
        return SparkSource(self.spark, directory)


ENGINES = {"duckdb": Duckdb, "chdb": Chdb, "spark": Spark, "pyarrow": Pyarrow}


def needed(module: str):
    try:
        return __import__(module, fromlist=["_"])
    except ImportError as error:
        raise Wrong(f"not installed ({error}): pip install -r tests/scale/requirements.txt, or --skip it") from error


def java_version() -> int:
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if not java or not Path(java).exists():
        raise Wrong("Spark needs Java 17 or later, and there is none: install openjdk-17-jre-headless, or --skip spark")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if not version or int(version[1]) < 17:
        raise Wrong(f"Spark needs Java 17 or later, and {java} is {version[1] if version else 'unknown'}")
    return int(version[1])


def quoted(path: Path, backslashes: bool = False) -> str:
    text = str(path).replace("\\", "\\\\") if backslashes else str(path)
    return "'" + text.replace("'", "''") + "'"


# Delta.


def delta(report: Report, directory: Path, rows: pa.Table, question: Question, by_duckdb: bool) -> None:
    """Makes a Delta table of a copy, in place. Then a part is replaced by another, as compacting does."""
    table = directory.name
    with tempfile.TemporaryDirectory() as copy:
        copy, dataset = Path(copy) / table, None
        with report.check(f"delta {table} conversion") as say:
            deltalake = needed("deltalake")
            shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("_delta_log"))
            parts = {path: path.read_bytes() for path in copy.glob(PARTS)}
            last = max(parts)
            replaced = last.rename(last.with_name("part-0000000000000000.parquet"))
            convert(copy)
            replaced.rename(last)
            catch_up(copy)
            if parts != {path: path.read_bytes() for path in copy.glob(PARTS)}:
                raise Wrong("a part has changed")
            delta_table = deltalake.DeltaTable(copy)
            dataset = delta_table.to_pyarrow_dataset()
            say(f"deltalake {deltalake.__version__}")
            say(f"{len(delta_table.file_uris())} parts")
        readers = {"pyarrow": lambda: PyarrowDataset(dataset, table, pa.date32())}
        if by_duckdb:
            readers["duckdb"] = lambda: Duckdb().arrow(dataset)
        for name, reader in readers.items() if dataset else ():
            compare(report, f"delta {table} {name}", reader, table, rows, question)


# The next two are in docs/scale.md.


def convert(directory: Path) -> None:
    from deltalake import Field, Schema, convert_to_deltalake
    from deltalake.schema import PrimitiveType

    partitions = Schema([Field("day", PrimitiveType("date")), Field("node", PrimitiveType("string"))])
    convert_to_deltalake(directory, partition_by=partitions, partition_strategy="hive")


def catch_up(directory: Path) -> None:
    """Tells the Delta table of the parts that have come and gone since, in one transaction."""
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

    table, actions, now = DeltaTable(directory), [], int(time.time() * 1000)
    parts = {path.relative_to(directory).as_posix(): path for path in directory.glob("day=*/node=*/part-*.parquet")}
    known = set(pa.table(table.get_add_actions())["path"].to_pylist())
    for name in sorted(parts.keys() - known):
        partition = dict(folder.split("=", 1) for folder in name.split("/")[:-1])
        stats = json.dumps({"numRecords": pq.read_metadata(parts[name]).num_rows})
        actions.append(AddAction(name, parts[name].stat().st_size, partition, now, True, stats))
    for name in sorted(known - parts.keys()):
        partition = dict(folder.split("=", 1) for folder in name.split("/")[:-1])
        actions.append(RemoveAction(name, True, now, partition_values=partition))
    if actions:
        table.create_write_transaction(actions, "append", table.schema(), partition_by=["day", "node"])


if __name__ == "__main__":
    sys.exit(main())
