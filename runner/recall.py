"""What earlier runs learned of tables that nobody described: kept with their history, for whoever has nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from runner.epochs import Epochs
from runner.load import DatasetState
from runner.plan import Plan
from runner.source import Table


@runtime_checkable
class Recalls(Protocol):
    """A source that infers the columns of its tables."""

    def recall(self, table: str, shape: Any) -> bool:
        """Take what was learned earlier into account; tell whether it was not known."""
        ...


async def recalled(
    plan: Plan,
    state: DatasetState,
    source: object,
    epochs: Epochs,
    make_plan: Callable[[Sequence[Table], Sequence[str]], Plan],
) -> Plan:
    """Return the plan with the columns that a fresh container has not seen and the destination has.

    Args:
        make_plan: Plans tables: all that it is given, and only those that are named.
    """
    if not isinstance(source, Recalls):
        return plan
    known = []
    for one in plan.tables:
        table, base = one.scan.table, state.tables.get(one.target.name)
        ours = base is not None and (base.source, base.source_table) == (one.target.source, one.name)
        kept = base.token if table.inferred and ours and base is not None else None
        if kept is not None and source.recall(table.name, json.loads(kept)):
            known.append(one.name)
    if not known:
        return plan
    async with epochs.current() as epoch:
        tables = await epoch.session.discover(known)
    again = {one.name: one for one in make_plan(tables, known).tables}
    return replace(plan, tables=tuple(again.get(one.name, one) for one in plan.tables))
