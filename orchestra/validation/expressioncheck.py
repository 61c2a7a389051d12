"""Expressions of a pipeline: whether they can be read, and whether what they name is there.

Facts: Orchestra docs, "Conditional expressions" (names, functions), "Matrix" (``matrix.`` outside a matrix is refused,
ids of children), "Setting outputs"; orchestra-cli 0.5.2 (``task_groups`` takes groups only).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from orchestra.validation.expressions import Expression, ExpressionError, dotted, expressions, key_of
from orchestra.validation.matrices import child_ids
from orchestra.validation.outline import Outline
from orchestra.validation.problems import Findings, near
from runner.document import Path_

STATUSES = (
    "CREATED", "SKIPPED", "QUEUED", "RUNNING", "SUCCEEDED", "WARNING", "FAILED", "CANCELLING", "CANCELLED", "COMPLETED",
)  # fmt: skip
# How many arguments they take.
FUNCTIONS = {
    "format_date": (2, 3), "add_days": (2, 2), "add_months": (2, 2), "len": (1, 1), "int": (1, 1), "str": (1, 1),
}  # fmt: skip
_ROOTS = ("inputs", "env", "secrets", "ORCHESTRA", "tasks", "task_groups", "outputs", "matrix")
_CONSTANTS = ("true", "false", "none", "null")
_ABOUT_RUN = (
    "PIPELINE_RUN_ID", "TASK_RUN_ID", "PIPELINE_RUN_STARTED_AT", "CURRENT_TIME", "CURRENT_BRANCH", "PIPELINE_RUN_TASKS",
)  # fmt: skip
_ABOUT_TASK = ("TASK_RUN_ID", "STATUS", "OUTPUTS", "RUN_PARAMETERS")


def check_expressions(outline: Outline, findings: Findings) -> None:
    """Look at every expression of a pipeline."""
    for path, text in texts(outline.data):
        found = list(expressions(text))
        if path[-1] == "condition" and not found and "parameters" not in path and path[0] in ("pipeline", "sensors"):
            findings.warn(path, "this condition holds no ${{ }}: it is a text, and a text is always true.")
        for expression in found:
            _Check(outline, findings, path, expression).check()


def texts(data: Any, at: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Return the texts in which Orchestra looks for expressions, with their paths."""
    if isinstance(data, str):
        yield at, data
    elif isinstance(data, dict):
        for key, one in data.items():
            if at or key != "meta":
                yield from texts(one, (*at, key))
    elif isinstance(data, list):
        for index, one in enumerate(data):
            yield from texts(one, (*at, index))


def outputs_read(outline: Outline) -> Iterator[tuple[str, Path_, Expression, ast.expr]]:
    """Return where outputs of tasks are read: the task, the path of the text, the expression, the part of it."""
    for path, text in texts(outline.data):
        for expression in expressions(text):
            try:
                tree = expression.parse()
            except ExpressionError:
                continue
            for node in ast.walk(tree):
                if not isinstance(node, ast.Attribute | ast.Subscript):
                    continue
                found = _task_of(dotted(node))
                if found and len(found[1]) == 1 and (key_of(found[1][0]) or "").lower() == "outputs":
                    yield found[0], path, expression, node


def _task_of(chain: tuple[ast.expr, list[ast.expr]]) -> tuple[str, list[ast.expr]] | None:
    """Return the task that a chain names, and what it wants of it."""
    root, links = chain
    if not isinstance(root, ast.Name):
        return None
    name = root.id.lower()
    if name == "orchestra" and links and (key_of(links[0]) or "").lower() == "pipeline_run_tasks":
        links = links[1:]
    elif name != "tasks":
        return None
    task = key_of(links[0]) if links else None
    return None if task is None else (task, links[1:])


class _Check:
    def __init__(self, outline: Outline, findings: Findings, path: Path_, expression: Expression) -> None:
        self._outline = outline
        self._findings = findings
        self._path = path
        self._expression = expression
        # Elsewhere what cannot be read is handed on as it stands.
        self._must = path[-1] in ("condition", "connection") or path[2:3] == ("matrix",)

    def check(self) -> None:
        try:
            tree = self._expression.parse()
        except ExpressionError as error:
            certain = self._must or self._expression.closed
            hint = "" if certain else "It is handed on as it stands."
            self._note(error.offset, str(error), hint, certain=certain)
            return
        self._visit(tree)

    def _note(self, offset: int, message: str, hint: str = "", *, certain: bool = True) -> None:
        following = self._expression.source[:offset]
        place = self._findings.located.inside(self._path, "${{", self._expression.number, following)
        self._findings.add(place, message, hint, "error" if certain else "warning")

    def _error(self, node: ast.AST, message: str, hint: str = "") -> None:
        self._note(self._expression.offset_of(node), message, hint)

    def _warn(self, node: ast.AST, message: str, hint: str = "") -> None:
        self._note(self._expression.offset_of(node), message, hint, certain=False)

    def _visit(self, node: ast.AST) -> None:
        chain = dotted(node) if isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Name) else None
        if chain is None:
            if isinstance(node, ast.Compare):
                self._compare(node)
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and isinstance(node.right, ast.Name):
                # Some write a conversion as a filter: value | int.
                self._function(node.right, None)
                self._visit(node.left)
                return
            for child in ast.iter_child_nodes(node):
                self._visit(child)
            return
        root, links = chain
        for link in links:
            if isinstance(link, ast.Subscript):
                self._visit(link.slice)
            elif isinstance(link, ast.Call):
                for argument in link.args:
                    self._visit(argument)
        if not isinstance(root, ast.Name):
            self._visit(root)
        elif links and isinstance(links[0], ast.Call):
            self._function(root, links[0])
        else:
            self._name(root, links)

    def _function(self, root: ast.Name, call: ast.Call | None) -> None:
        arity = FUNCTIONS.get(root.id.lower())
        if arity is None:
            known = ", ".join(FUNCTIONS)
            self._error(root, f"there is no function {root.id!r}.", near(root.id, FUNCTIONS, f"Known: {known}."))
        elif call is not None and not arity[0] <= len(call.args) <= arity[1]:
            wanted = f"{arity[0]}" if arity[0] == arity[1] else f"{arity[0]} or {arity[1]}"
            many = "value" if arity[1] == 1 else "values"
            self._error(root, f"{root.id} takes {wanted} {many}, not {len(call.args)}.")

    def _name(self, root: ast.Name, links: list[ast.expr]) -> None:
        name = root.id.lower()
        if name in _CONSTANTS:
            return
        if name not in {known.lower() for known in _ROOTS}:
            hint = near(root.id, (*_ROOTS, *FUNCTIONS), f"Known: {', '.join(_ROOTS)}.")
            if root.id in self._outline.inputs:
                hint = f"Did you mean 'inputs.{root.id}'?"
            self._error(root, f"there is no name {root.id!r}.", hint)
            return
        key = key_of(links[0]) if links else None
        if not links:
            if name not in ("outputs", "matrix", "inputs"):
                self._error(root, f"{root.id} is no value by itself.", f"Say which: {root.id}.NAME.")
            elif name == "matrix":
                self._matrix(root, None)
        elif name == "inputs" and key is not None and key not in self._outline.inputs:
            known = self._outline.inputs
            self._error(root, f"there is no input {key!r}.", _input_hint(key, known))
        elif name == "orchestra":
            self._about_run(root, links)
        elif name == "tasks":
            self._task(root, links)
        elif name == "task_groups":
            self._group(root, links)
        elif name == "matrix":
            self._matrix(root, key)
        elif name == "outputs" and self._path[0] not in ("sensors", "trigger_events"):
            hint = "Those of a task are ORCHESTRA.PIPELINE_RUN_TASKS['task'].OUTPUTS['name']."
            self._warn(root, "outputs is known to sensors and trigger events only.", hint)

    def _matrix(self, root: ast.Name, key: str | None) -> None:
        keys = self._outline.matrix_keys(self._path)
        if keys is None:
            self._error(root, f"{root.id} is known in a group with a matrix only.")
        elif key is not None and key not in keys:
            said = near(key, keys, f"Known here: {', '.join(sorted(keys))}." if keys else "")
            self._error(root, f"the matrix of this group has no input {key!r}.", said)

    def _about_run(self, root: ast.Name, links: list[ast.expr]) -> None:
        key = key_of(links[0])
        if key is None:
            return
        if key.lower() not in {known.lower() for known in _ABOUT_RUN}:
            self._warn(
                root, f"{root.id}.{key} is not known.", near(key, _ABOUT_RUN, f"Known: {', '.join(_ABOUT_RUN)}.")
            )
        elif key.lower() == "pipeline_run_tasks":
            self._task(root, links[1:])

    def _task(self, root: ast.Name, links: list[ast.expr]) -> None:
        named = key_of(links[0]) if links else None
        if named is None:
            return
        task = self._outline.tasks.get(named) or self._parent(named)
        if task is None:
            hint = near(named, self._outline.tasks)
            if named in self._outline.groups:
                hint = "That is a group: task_groups takes those."
            self._error(root, f"there is no task {named!r}.", hint)
            return
        wanted = key_of(links[1]) if len(links) > 1 else None
        if wanted is not None and wanted.lower() not in {known.lower() for known in _ABOUT_TASK}:
            known = ", ".join(_ABOUT_TASK)
            self._warn(
                root, f"of a task nobody knows {wanted!r}.", near(wanted.upper(), _ABOUT_TASK, f"Known: {known}.")
            )
        elif not self._outline.runs_before(task.id, self._path):
            self._warn(root, f"nothing here waits for the task {named!r}.", "It may not have run yet.")

    def _parent(self, child: str) -> Any:
        """Return the task of a matrix that has a child of this id."""
        for task in self._outline.tasks.values():
            if task.group is not None and child.startswith(f"{task.id}_"):
                ids = child_ids(task.id, self._outline.top[task.group].data.get("matrix"))
                if ids is None or child in ids:
                    return task
        return None

    def _group(self, root: ast.Name, links: list[ast.expr]) -> None:
        named = key_of(links[0])
        if named is not None and named not in self._outline.groups:
            hint = near(named, self._outline.groups)
            if named in self._outline.tasks:
                task = self._outline.tasks[named]
                hint = f"That is a task of the group {task.group!r}." if task.group else "That is a task."
            self._error(root, f"there is no group {named!r}.", hint)
        calls = [link for link in links if isinstance(link, ast.Call)]
        for call in calls:
            method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if method.lower() not in ("all", "any"):
                self._error(root, f"a group has no {method!r}.", "Known: all(), any().")
            elif call.args:
                self._error(root, f"{method}() takes no values.")

    def _compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        if not any(isinstance(one, ast.Attribute) and one.attr.lower() == "status" for one in sides):
            return
        for side in sides:
            for constant in side.elts if isinstance(side, ast.List | ast.Tuple) else [side]:
                if isinstance(constant, ast.Constant) and constant.value not in STATUSES:
                    hint = near(str(constant.value).upper(), STATUSES, f"Known: {', '.join(STATUSES)}.")
                    self._error(constant, f"there is no status {constant.value!r}.", hint)


def _input_hint(key: str, known: dict[str, Any]) -> str:
    return near(key, known, f"Known: {', '.join(sorted(known))}." if known else "The pipeline declares no inputs.")
