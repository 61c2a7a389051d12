"""What a query costs, before it is executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    value_from_ast_untyped,
)

PAGE = 50


class Complexity:
    """Points of a query: 0.1 a property, 1 an object, a connection multiplies its children by its page size.

    Source: https://linear.app/developers/rate-limiting#complexity
    """

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = dict(variables)

    def of(self, operation: OperationDefinitionNode) -> float:
        """Return the points of an operation."""
        return round(self._selection(operation.selection_set, self._schema.query_type), 6)

    def _selection(self, selection: SelectionSetNode, parent: Any) -> float:
        points = 0.0
        for node in selection.selections:
            if isinstance(node, FieldNode):
                points += self._field(node, parent)
            elif isinstance(node, InlineFragmentNode):
                on = node.type_condition
                points += self._selection(node.selection_set, self._schema.get_type(on.name.value) if on else parent)
            elif isinstance(node, FragmentSpreadNode):
                fragment = self._fragments[node.name.value]
                on_type = self._schema.get_type(fragment.type_condition.name.value)
                points += self._selection(fragment.selection_set, on_type)
        return points

    def _field(self, node: FieldNode, parent: Any) -> float:
        if node.selection_set is None:
            return 0.1
        field = None
        if isinstance(parent, (GraphQLObjectType, GraphQLInterfaceType)):
            field = self._schema.get_field(parent, node.name.value)
        kind = get_named_type(field.type) if field is not None else None
        inside = self._selection(node.selection_set, kind)
        if kind is None or not kind.name.endswith("Connection"):
            return 1 + inside
        given = {one.name.value: value_from_ast_untyped(one.value, self._variables) for one in node.arguments or ()}
        size = given.get("first") or given.get("last") or PAGE
        return 1 + (size if isinstance(size, int) else PAGE) * inside
