"""What is measured, and the bars: ratios of wall time inside one interleaved set."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.contenders import (
    ADBC,
    CONNECTORX,
    DLT_CONNECTORX,
    DLT_PYARROW,
    DUCKDB,
    INGESTR,
    OURS,
    PSQL,
    SLING,
    Again,
    Contender,
    Ours,
    Task,
)

HASH = Ours("ours, verified by hash", extra=("--verify", "hash"))
LEAN = Ours("ours, 256 MiB", limits={"memory": "256MiB"})
AMPLE = Ours("ours, 4 GiB", limits={"memory": "4GiB"})
AGAIN = Again("ours, again")
_COUNTS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Bar:
    """A ratio of one contender's time to another's, and the most or the least that it may be."""

    one: str
    other: str
    most: float | None = None
    least: float | None = None
    aim: float | None = None

    def met(self, ratio: float) -> bool:
        """Tell whether a ratio is within the bar."""
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)

    def __str__(self) -> str:
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"


@dataclass(frozen=True)
class Case:
    """Tables, a kind of place, and who moves them there.

    Attributes:
        tables: Of the schema; () is all of them.
        latency: Milliseconds of a round trip to the source.
        quick: Whether it belongs to the quick set.
        memory: Contenders, and the most MB that each may have resident.
    """

    name: str
    schema: str
    kind: str
    contenders: tuple[Contender, ...]
    tables: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()
    latency: float = 0.0
    quick: bool = True
    memory: tuple[tuple[str, int], ...] = ()


CASES = (
    Case(
        "lineitem to Parquet",
        "tpch",
        "parquet",
        (OURS, LEAN, DUCKDB, CONNECTORX, ADBC, SLING),
        ("lineitem",),
        (Bar("ours", "DuckDB", most=1.15, aim=1.05), Bar("Sling (CSV)", "ours", least=5)),
        memory=(("ours, 256 MiB", 400),),
    ),
    Case(
        "lineitem to DuckDB",
        "tpch",
        "duckdb",
        (OURS, LEAN, HASH, DUCKDB, DLT_CONNECTORX, DLT_PYARROW, INGESTR),
        ("lineitem",),
        (
            Bar("ours", "DuckDB", most=1.3, aim=1.05),
            Bar("dlt (connectorx)", "ours", least=3),
            Bar("ingestr", "ours", least=3.5),
        ),
        memory=(("ours, 256 MiB", 600),),
    ),
    Case("all of TPC-H to DuckDB", "tpch", "duckdb", (OURS, DUCKDB), bars=(Bar("ours", "DuckDB", most=1.3, aim=1.05),)),
    Case(
        "300 small tables to DuckDB",
        "small300x1000",
        "duckdb",
        (OURS, AGAIN, DUCKDB, DLT_CONNECTORX),
        bars=(Bar("ours", "DuckDB", most=1.5, aim=1.1),),
    ),
    Case(
        "2,000 tiny tables to DuckDB",
        "small2000x100",
        "duckdb",
        (OURS, AGAIN, DUCKDB),
        quick=False,
    ),
    Case(
        "a table of 1,000 columns to DuckDB",
        "wide",
        "duckdb",
        (OURS, LEAN, DUCKDB),
        bars=(Bar("ours", "DuckDB", most=1.6, aim=1.1),),
        memory=(("ours, 256 MiB", 600),),
    ),
    # DuckDB works on 2,048 rows at a time, whatever they take: it cannot be bounded there.
    Case("values of 1 MB to DuckDB", "fat", "duckdb", (AMPLE, DUCKDB), quick=False),
    Case("values of 1 MB to Parquet", "fat", "parquet", (LEAN, DUCKDB), quick=False, memory=(("ours, 256 MiB", 400),)),
    Case(
        "values of 1 MB to PostgreSQL", "fat", "postgres", (LEAN, PSQL), quick=False, memory=(("ours, 256 MiB", 400),)
    ),
    Case("skewed keys to DuckDB", "skewed", "duckdb", (OURS, DUCKDB), quick=False),
    Case("300 small tables, 20 ms away", "small300x1000", "duckdb", (OURS, DUCKDB), latency=20.0, quick=False),
    Case(
        "lineitem to PostgreSQL",
        "tpch",
        "postgres",
        (OURS, LEAN, PSQL),
        ("lineitem",),
        (Bar("ours", "psql", most=1.3),),
        memory=(("ours, 256 MiB", 400),),
    ),
    Case("one task of 1,000 rows", "small300x1000", "duckdb", (Task("ours, runner task"),), ("t0000",)),
    Case(
        "lineitem to Parquet, by connections",
        "tpch",
        "parquet",
        tuple(Ours(f"connections: {count}", limits={"connections": count}) for count in _COUNTS),
        ("lineitem",),
        quick=False,
    ),
    Case(
        "lineitem to DuckDB, by rows a chunk",
        "tpch",
        "duckdb",
        tuple(
            Ours(f"chunk_rows: {rows}", limits={"chunk_rows": rows}) for rows in (100_000, 250_000, 500_000, 1_000_000)
        ),
        ("lineitem",),
        quick=False,
    ),
    Case(
        "300 small tables, by tables at once",
        "small300x1000",
        "duckdb",
        tuple(Ours(f"tables: {count}", limits={"tables": count}) for count in _COUNTS),
        quick=False,
    ),
)
