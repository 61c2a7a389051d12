"""Job and source together: which tables, in which mode, under which name, and why."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from runner.columns import apply_to_schema
from runner.document import nearest
from runner.errors import (
    JobFileError,
    NameCollision,
    NotOurs,
    PermissionMissing,
    RunnerError,
    SourceError,
    TableMissing,
    UsageError,
)
from runner.job import Deletes, Job, TableEntry, is_exact, matches
from runner.jobfile import SettledJob
from runner.load import DELETED_AT, VERSION_COLUMNS, Range, Target, TargetColumn
from runner.naming import fingerprint, normalise
from runner.rowhash import FORM, Slice
from runner.source import CHANGES, NOTHING, Column, Scan, Table, Window


@dataclass(frozen=True)
class TablePlan:
    """How one table is moved.

    Attributes:
        mode: full, append, incremental or snapshot.
        why: Why this mode, in words.
        key_from: Where the key comes from: the job file, or the source's primary key.
        range: The part of the cursor that --since and --until replace.
        deletion: How rows deleted at the source are found: "compare", or the name at the destination of the column
            that marks them.
        unique: The key by its names at the destination, in every mode; empty where its values do not arrive as
            they were.
    """

    scan: Scan
    target: Target
    entry: TableEntry
    mode: str
    why: str
    cursor: str | None = None
    key_from: str = ""
    range: tuple[str | None, str | None] | None = None
    deletion: str | None = None
    unique: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``schema.table`` at the source: the table's name in ledger, logs and report."""
        return self.scan.table.qualified

    @property
    def keeps_mark(self) -> bool:
        """Whether the high-water mark stays where it is: a range or a slice says nothing about it."""
        return self.range is not None or self.scan.slice is not None

    def definition(self) -> str:
        """Return the digest of the plan without the range or window of one run."""
        window = Window(self.cursor) if self.cursor else None
        return replace(self, scan=replace(self.scan, window=window, slice=None), range=None).digest()

    def digest(self) -> str:
        """Return what an unfinished run is compared by; limits and retries are not in it."""
        return fingerprint(
            [self.scan.digest(), self.mode, self.cursor, list(self.target.key), self.target.name, self.range, FORM]
        )


@dataclass(frozen=True)
class Rejected:
    """A table that cannot be planned; the others are."""

    name: str
    error: RunnerError


@dataclass(frozen=True)
class Plan:
    """The tables of a job, largest first, and those that cannot be planned."""

    tables: tuple[TablePlan, ...]
    rejected: tuple[Rejected, ...]
    dataset: str

    @property
    def hashed(self) -> tuple[Column, ...]:
        """The columns that are hashed, for which a key is needed."""
        return tuple(column for one in self.tables for column in one.scan.columns if column.rule == "hash")


def patterns(job: Job) -> list[str]:
    """Return what the source is asked to discover."""
    return list(job.tables)


def make_plan(
    settled: SettledJob,
    tables: Sequence[Table],
    *,
    max_name: int,
    promises: Mapping[str, str],
    since: str | None = None,
    until: str | None = None,
    only: Sequence[str] = (),
) -> Plan:
    """Plan every selected table.

    Args:
        tables: What the source shows.
        max_name: The destination's longest identifier.
        promises: The modes that the destination can keep.
        since: Start of a range of the cursor, in UTC; until: its end, exclusive.
        only: Patterns that narrow the selection (--tables).

    Raises:
        NameCollision: Two tables would have one name.
        UsageError: Nothing is selected, or a range is asked of a table without a cursor.
    """
    job = settled.job
    merges = "incremental" in promises
    chosen = [(table, entry) for table in tables if (entry := _entry(job, table, merges=merges)) is not None]
    rejected = _missing(job, tables)
    if only:
        chosen = [pair for pair in chosen if any(matches(pattern, pair[0].qualified) for pattern in only)]
        rejected = [one for one in rejected if any(matches(pattern, one.name) for pattern in only)]
    if not chosen and not rejected:
        raise UsageError(
            "No table is selected.", guidance="Check `tables:` and `exclude:`, --tables, and the user's grants."
        )
    dataset = dataset_of(settled, {table.schema for table, _ in chosen})
    several = _several_schemas(job)
    plans: list[TablePlan] = []
    for table, entry in chosen:
        try:
            name = _table_name(settled, table, entry, several=several, max_name=max_name)
            plan = _plan_table(settled, table, entry, name, max_name, merges=merges)
            if plan.mode not in promises:
                raise JobFileError(
                    f"{table.qualified}: this destination cannot keep mode {plan.mode}.",
                    guidance=f"It keeps: {', '.join(promises)}.",
                )
            plans.append(plan)
        except (JobFileError, SourceError) as error:
            rejected.append(Rejected(table.qualified, error))
    _refuse_collisions(plans)
    if since is not None or until is not None:
        if "incremental" not in promises:
            raise UsageError("This destination cannot replace a range.", guidance="Leave --since and --until out.")
        plans = [_with_range(plan, since, until) for plan in plans]
    plans.sort(key=lambda plan: (-plan.scan.table.bytes, plan.name))
    return Plan(tuple(plans), tuple(rejected), dataset)


def _entry(job: Job, table: Table, *, merges: bool) -> TableEntry | None:
    """Return how a table is moved: what its connector knows of it, the job's defaults, then its entries.

    What a connector knows gives way: nobody asked for the lag of an append, or for deletes where none can be kept.
    """
    known = TableEntry.model_validate(table.defaults)
    entry = job.entry(table.qualified, known)
    names = {column.name for column in table.columns}
    if entry is not None and known.cursor and isinstance(entry.cursor, list) and not names & set(entry.cursor):
        # Names that the job would like where there are any.
        entry = TableEntry(cursor=known.cursor).over(entry)
    if entry is not None and known.mode and entry.mode == "auto":
        entry = TableEntry(mode=known.mode).over(entry)
    if entry is None:
        return None
    said = job.entry(table.qualified)
    unasked = {"lag"} if entry.mode == "append" else set()
    unasked |= {"deletes"} if entry.mode == "snapshot" or not merges or _drops_marks(table, entry) else set()
    unasked -= said.model_fields_set if said else set()
    return TableEntry.model_construct(
        **{name: getattr(entry, name) for name in entry.model_fields_set if name not in unasked}
    )


def _drops_marks(table: Table, entry: TableEntry) -> bool:
    """Tell whether the column that marks deleted rows is left out."""
    if not isinstance(entry.deletes, Deletes) or not entry.columns:
        return False
    try:
        return entry.deletes.column not in {column.name for column in apply_to_schema(table, entry.columns)}
    except JobFileError:
        return False  # said again when the table is planned


def _several_schemas(job: Job) -> bool:
    """Tell whether the job may take tables of several schemas.

    By its patterns alone: a name at the destination depends on nothing that changes from run to run.
    """
    schemas = {pattern.partition(".")[0] if "." in pattern else "*" for pattern in job.tables}
    return len(schemas) > 1 or not is_exact(schemas.pop())


def _missing(job: Job, tables: Sequence[Table]) -> list[Rejected]:
    known = {table.qualified for table in tables} | {table.name for table in tables}
    missing = []
    for pattern, entry in job.tables.items():
        if is_exact(pattern) and pattern not in known and not (entry and entry.disabled):
            near = nearest(pattern, known)
            hint = f" Did you mean {near!r}?" if near else ""
            missing.append(Rejected(pattern, TableMissing(f"{pattern} is not at the source.{hint}", table=pattern)))
    return missing


def _fill(template: str, settled: SettledJob, values: Mapping[str, str]) -> str:
    known = {"source": settled.source_name, "env": settled.environment or "", **values}
    for name in re.findall(r"\{(\w*)\}", template):
        if name not in known:
            raise UsageError(
                f"The template {template!r} uses {{{name}}}.", guidance=f"Known: {', '.join(sorted(known))}."
            )
        if name == "env" and not settled.environment:
            raise UsageError(f"The template {template!r} needs an environment.", guidance="Give one with --env.")
    return re.sub(r"\{(\w+)\}", lambda match: known[match[1]], template)


def dataset_of(settled: SettledJob, schemas: Iterable[str]) -> str:
    """Return the dataset that a job writes to.

    Args:
        schemas: Of its tables, at the source.

    Raises:
        UsageError: The template gives several, or needs what is not known.
    """
    template = settled.destination.dataset
    if "{schema}" not in template:
        return normalise(_fill(template, settled, {}), 63)
    names = {_fill(template, settled, {"schema": schema}) for schema in schemas} or {template}
    if len(names) > 1:
        raise UsageError(
            f"The dataset template {template!r} gives several datasets: {', '.join(sorted(names))}.",
            guidance="One job writes to one dataset: make a job for each schema, or put {schema} into `table:`.",
        )
    return normalise(names.pop(), 63)


def _table_name(settled: SettledJob, table: Table, entry: TableEntry, *, several: bool, max_name: int) -> str:
    template = settled.destination.table or ("{schema}__{table}" if several else "{table}")
    rendered = entry.as_ or _fill(template, settled, {"schema": table.schema, "table": table.name})
    # dlt's convention: two underscores separate the parts of a path, each is normalised alone.
    parts = [normalise(part, max_name) for part in rendered.split("__") if part.strip()]
    name = "__".join(parts)
    if not name or name.startswith(("_runner_", "_dlt_")):
        raise JobFileError(f"{table.qualified}: the name {rendered!r} cannot be used.", table=table.qualified)
    return name if len(name) <= max_name else normalise(rendered, max_name)


def _plan_table(
    settled: SettledJob, table: Table, entry: TableEntry, name: str, max_name: int, *, merges: bool
) -> TablePlan:
    if not table.readable:
        raise PermissionMissing(f"This user may not read {table.qualified}.", table=table.qualified)
    if table.problem is not None:
        raise SourceError(f"{table.qualified}: {table.problem}", guidance="Exclude it, or repair it at the source.")
    if not table.columns:
        raise SourceError(
            f"{table.qualified} has no columns.", guidance="Exclude it: no destination can keep such a table."
        )
    columns = apply_to_schema(table, entry.columns or {})
    if entry.special == "null":
        # What cannot arrive becomes NULL, also where the source has none.
        columns = tuple(replace(column, nullable=True) if _is_special(column.type) else column for column in columns)
    if not columns:
        raise JobFileError(f"{table.qualified}: every column is dropped.")
    names = {column.name: normalise(column.name, max_name) for column in columns}
    _refuse_column_collisions(table, names)
    key, key_from = _key(table, entry, names)
    masked = [column.name for column in columns if column.rule == "mask" and column.name in key]
    if entry.late == "scan" and table.kind not in ("table", "partitioned"):
        raise JobFileError(f"{table.qualified}: late: scan needs row versions, and a {table.kind} has none.")
    if entry.late == "scan" and entry.mode in ("full", "append", "snapshot"):
        raise JobFileError(f"{table.qualified}: late: scan needs mode incremental, and the mode is {entry.mode}.")
    mode, cursor, why = _mode(table, entry, () if masked and (entry.mode or "auto") == "auto" else key, merges=merges)
    if entry.deletes not in (None, "ignore") and not merges:
        raise JobFileError(f"{table.qualified}: deletes: this destination cannot delete rows.")
    if mode == "incremental" and masked:
        raise JobFileError(
            f"{table.qualified}: the key column {masked[0]!r} is masked, so that every row would have the same key.",
            guidance="Hash it instead, name another key, or use mode: full.",
        )
    if mode == "snapshot" and (taken := sorted(set(names.values()) & set(VERSION_COLUMNS))):
        raise JobFileError(f"{table.qualified}: mode snapshot has a column {taken[0]!r} of its own.")
    target = Target(
        name=name,
        columns=tuple(TargetColumn(c.name, names[c.name], c.type, c.nullable, c.json, c.native) for c in columns),
        key=tuple(names[column] for column in key) if mode == "incremental" else (),
        source=settled.source_name,
        source_table=table.qualified,
        comment=table.comment,
        ordered=table.tracked,
    )
    scan = Scan(table, columns, entry.where, Window(cursor) if cursor else None, entry.special or "error")
    deletion = _deletion(table, entry, mode, target, names)
    unique = () if masked else tuple(names[column] for column in key)
    return TablePlan(scan, target, entry, mode, why, cursor, key_from, deletion=deletion, unique=unique)


def _deletion(table: Table, entry: TableEntry, mode: str, target: Target, names: Mapping[str, str]) -> str | None:
    if entry.deletes in (None, "ignore"):
        return None
    if isinstance(entry.deletes, Deletes):
        column = entry.deletes.column
        if column not in names:
            near = nearest(column, names)
            hint = f" Did you mean {near!r}?" if near else ""
            raise JobFileError(f"{table.qualified}: deletes: there is no column {column!r}.{hint}")
        if mode == "snapshot":
            raise JobFileError(f"{table.qualified}: mode snapshot keeps deleted rows as history; leave deletes out.")
        kind = next((one.type for one in target.columns if one.source == column), None)
        if kind is None or not (pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
            raise JobFileError(
                f"{table.qualified}: deletes: {column!r} arrives as {kind}, and a row is deleted where a boolean is "
                "true or a time is not NULL."
            )
        return names[column]
    if mode == "incremental":
        if DELETED_AT in names.values():
            raise JobFileError(f"{table.qualified}: the source has a column {DELETED_AT!r} of its own.")
        return "compare"
    if mode == "full":
        return None  # a full refresh holds what the source holds
    raise JobFileError(f"{table.qualified}: deletes: compare needs mode incremental, and the mode is {mode}.")


def _key(table: Table, entry: TableEntry, names: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    key = tuple(entry.key or table.primary_key)
    for column in key:
        if column not in names:
            near = nearest(column, names)
            raise JobFileError(
                f"{table.qualified}: key: there is no column {column!r} to merge by."
                + (f" Did you mean {near!r}?" if near else "")
            )
    return key, "job file" if entry.key else ("primary key" if key else "")


def _mode(table: Table, entry: TableEntry, key: tuple[str, ...], *, merges: bool) -> tuple[str, str | None, str]:
    """Return mode, cursor and why."""
    mode = entry.mode or "auto"
    if mode == "snapshot":
        return "snapshot", None, "as the job file says"
    if table.tracked and not isinstance(entry.cursor, str):
        if mode in ("auto", "incremental") and key and merges:
            return "incremental", CHANGES, f"the source tracks changes, key ({', '.join(key)})"
        if mode == "append":
            return "append", CHANGES, "as the job file says; the source tracks changes"
    if mode == "auto":
        cursor = _find_cursor(table, entry.cursor, strict=True)
        if cursor and key and merges:
            return "incremental", cursor, f"auto: {cursor} is indexed and not null, key ({', '.join(key)})"
        unkeyed = "no primary key" if merges else "a destination that cannot merge"
        reason = unkeyed if cursor else _no_cursor(table, entry.cursor)
        if entry.fallback == "error":
            raise JobFileError(f"{table.qualified}: mode auto found {reason}, and fallback is error.")
        return "full", _find_cursor(table, entry.cursor, strict=False), f"auto: {reason}"
    cursor = _find_cursor(table, entry.cursor, strict=False)
    if mode == "full":
        return "full", cursor, "as the job file says"
    if isinstance(entry.cursor, str) and cursor is None:
        column = table.column(entry.cursor)
        if column is not None:
            raise JobFileError(f"{table.qualified}: cursor: {column.native} ({entry.cursor!r}) cannot order changes.")
        near = nearest(entry.cursor, (column.name for column in table.columns))
        hint = f" Did you mean {near!r}?" if near else ""
        raise JobFileError(f"{table.qualified}: cursor: there is no column {entry.cursor!r}.{hint}")
    if mode == "incremental":
        if cursor is None:
            raise JobFileError(f"{table.qualified}: mode incremental needs a cursor.")
        if not key:
            raise JobFileError(f"{table.qualified}: mode incremental needs a key, and there is no primary key.")
    if mode == "append" and cursor is not None:
        column = table.column(cursor)
        if column is not None and column.nullable:
            raise JobFileError(
                f"{table.qualified}: mode append needs a cursor that is not null, and {cursor!r} may be.",
            )
        if entry.lag:
            raise JobFileError(f"{table.qualified}: lag would append rows twice; use mode incremental.")
    return mode, cursor, "as the job file says"


def _no_cursor(table: Table, wanted: str | list[str] | None) -> str:
    """Return why none of the wanted columns can be trusted to order changes."""
    names = [wanted] if isinstance(wanted, str) else wanted or []
    if not names:
        return "no cursor is named"
    for name in names:
        column = table.column(name)
        if column is None:
            continue
        if not can_order(column.type):
            return f"{name} ({column.native}) cannot order changes"
        if column.nullable:
            return f"{name} may be NULL (say mode: incremental to use it all the same)"
        return f"{name} leads no index (say mode: incremental to use it all the same)"
    return f"no column {' or '.join(names)}"


def _find_cursor(table: Table, wanted: str | list[str] | None, *, strict: bool) -> str | None:
    """Return the first wanted column that can order changes; strictly: indexed and not null."""
    for name in [wanted] if isinstance(wanted, str) else wanted or []:
        column = table.column(name)
        if column is None or not can_order(column.type):
            continue
        if not strict or (not column.nullable and name in table.indexed):
            return name
    return None


def _is_special(kind: pa.DataType) -> bool:
    """Tell whether a column of this type may hold values that have no place in it (special: null)."""
    return bool(pa.types.is_decimal(kind) or pa.types.is_temporal(kind))


def can_order(kind: pa.DataType) -> bool:
    """Tell whether values of a type can be a cursor."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_integer(kind))


def _refuse_collisions(plans: Sequence[TablePlan]) -> None:
    by_name: dict[str, list[str]] = defaultdict(list)
    for plan in plans:
        by_name[plan.target.name].append(plan.name)
    clashes = {name: sources for name, sources in by_name.items() if len(sources) > 1}
    if clashes:
        lines = [f"{' and '.join(sources)} would both be {name}." for name, sources in clashes.items()]
        raise NameCollision("\n".join(lines))


def _refuse_column_collisions(table: Table, names: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for source, name in names.items():
        if name in seen or name.startswith("_runner_"):
            raise JobFileError(
                f"{table.qualified}: the columns {seen.get(name, '_runner_*')!r} and {source!r} would both be "
                f"{name!r} at the destination.",
                guidance="Leave one of them out: columns: {name: drop}.",
            )
        seen[name] = source


def _with_range(plan: TablePlan, since: str | None, until: str | None) -> TablePlan:
    if plan.cursor is None:
        raise UsageError(
            f"--since and --until need a cursor, and {plan.name} has none.",
            guidance="Give the table a cursor, or leave it out with --tables.",
        )
    column = next((column for column in plan.scan.columns if column.name == plan.cursor and not column.rule), None)
    if column is None:
        raise UsageError(
            f"--since and --until need the cursor {plan.cursor!r} of {plan.name} at the destination as it is.",
            guidance="Take its rule out of `columns:`, or leave the table out with --tables.",
        )
    start, end = (None if text is None else cursor_text(text, column.type) for text in (since, until))
    if start is not None and end is not None and not reaches_past(end, start, column.type):
        raise UsageError(f"The range from {since} to {until} is empty.", guidance="--until comes after --since.")
    window = Window(plan.cursor, start, end, from_start=True, before_end=True, nulls=False)
    return replace(plan, scan=replace(plan.scan, window=window), range=(start, end), why="--since/--until")


def reaches_past(end: str | None, mark: str, kind: pa.DataType) -> bool:
    """Tell whether a range that ends before a bound reaches past a mark; open ends do."""
    if end is None:
        return True
    if pa.types.is_integer(kind):
        return int(end) > int(mark)
    try:
        return datetime.fromisoformat(end) > datetime.fromisoformat(mark)
    except (ValueError, TypeError):
        return True


def latest(marks: Sequence[str], kind: pa.DataType) -> str:
    """Return the largest of some marks."""
    if pa.types.is_integer(kind):
        return max(marks, key=int)
    return max(marks, key=datetime.fromisoformat)


def cursor_text(text: str, kind: pa.DataType) -> str:
    """Return a bound of the command line as the cursor's own text; times without an offset are UTC.

    Raises:
        UsageError: It is not a time or a number, as the cursor needs.
    """
    try:
        if pa.types.is_integer(kind):
            return str(int(text))
        moment = datetime.fromisoformat(text)
    except ValueError:
        what = "a number" if pa.types.is_integer(kind) else "a time, such as 2024-01-31 or 2024-01-31T06:00:00Z"
        raise UsageError(f"{text!r} is not {what}.") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if pa.types.is_date(kind):
        return moment.date().isoformat()
    naive = moment.replace(tzinfo=None).isoformat(sep=" ")
    return f"{naive}+00" if getattr(kind, "tz", None) else naive


def mark_fits(mark: str, kind: pa.DataType) -> bool:
    """Tell whether a mark is a value of a cursor of this type."""
    try:
        if pa.types.is_integer(kind):
            int(mark)
        elif pa.types.is_date(kind):
            return len(mark) == len("2024-01-31") or mark.endswith("BC")
        else:
            return mark.endswith("BC") or (datetime.fromisoformat(mark).tzinfo is None) == (kind.tz is None)
    except ValueError:
        return False
    return True


def windowed(plan: TablePlan, mark: str | None, token: str | None = None) -> TablePlan:
    """Return the plan with the window that a run reads from the last high-water mark on.

    Args:
        token: The picture of the source that the mark was taken in, for ``late: scan``.
    """
    if plan.cursor is None or plan.range is not None or plan.mode in ("full", "snapshot"):
        return plan
    if plan.cursor == CHANGES:
        return replace(plan, scan=replace(plan.scan, window=Window(CHANGES, mark, from_start=True)))
    column = plan.scan.table.column(plan.cursor)
    assert column is not None
    if plan.mode == "append":
        window = Window(plan.cursor, mark, nulls=False)
    else:
        start = None if mark is None else step_back(mark, plan.entry.lag, column.type)
        # From the mark itself on: rows with an equal cursor may have come after it was taken.
        late = token if mark is not None and plan.entry.late == "scan" else None
        window = Window(plan.cursor, start, from_start=True, late=late)
    return replace(plan, scan=replace(plan.scan, window=window))


def bounded(plan: TablePlan, ceiling: str | None) -> TablePlan:
    """Return an append plan that reads no further than a mark, so that nothing comes twice.

    Args:
        ceiling: The safe mark of this run; None where there is nothing to read.
    """
    window = plan.scan.window
    assert window is not None
    if ceiling is None and window.start is None:
        return replace(plan, scan=replace(plan.scan, where=NOTHING))
    return replace(plan, scan=replace(plan.scan, window=replace(window, end=ceiling or window.start)))


def step_back(mark: str, lag: timedelta | int | None, kind: pa.DataType) -> str:
    """Return where a run starts again: the mark less the lag."""
    if not lag or mark.endswith(("infinity", "BC")):
        return mark
    if pa.types.is_integer(kind):
        return str(int(mark) - (lag if isinstance(lag, int) else int(lag.total_seconds())))
    span = lag if isinstance(lag, timedelta) else timedelta(seconds=lag)
    if pa.types.is_date(kind):
        return (date.fromisoformat(mark) - timedelta(days=-(-span // timedelta(days=1)))).isoformat()
    return (datetime.fromisoformat(mark) - span).isoformat(sep=" ")


def target_range(plan: TablePlan) -> Range | None:
    """Return the range that the publication replaces, with the destination's name of the cursor."""
    if plan.range is None:
        return None
    name = next(column.name for column in plan.target.columns if column.source == plan.cursor)
    return Range(name, *plan.range)


def target_slice(plan: TablePlan) -> Slice | None:
    """Return the slice that a repair replaces, with the destination's names of the key."""
    part = plan.scan.slice
    if part is None:
        return None
    names = {column.source: column.name for column in plan.target.columns}
    return Slice(tuple(names[name] for name in part.key), part.prefixes)


def not_ours(table: str, owner: tuple[str, str] | None) -> NotOurs:
    """Return the error for a table that another source made."""
    made = f"was made from {owner[0]} {owner[1]}" if owner else "was not made by this tool"
    return NotOurs(f"The table {table} exists at the destination and {made}.", table=table)
