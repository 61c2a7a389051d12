"""What the double holds: services, their entity sets, rows, and the delta queue of each set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors.testing.odp.refusals import Refused

CHANGE_MODE = "ODQ_CHANGEMODE"
COUNTER = "ODQ_ENTITYCNTR"

Row = dict[str, Any]


@dataclass(frozen=True)
class Property:
    """A property of an entity type, as $metadata declares it.

    Attributes:
        type: With its namespace: Edm.String.
        facets: Further attributes of its element, such as MaxLength, Precision, Scale and sap:label.
    """

    name: str
    type: str = "Edm.String"
    facets: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Answered:
    """A delta that was handed out: what it said, and the token that follows."""

    rows: list[Row]
    until: int
    following: str


@dataclass
class Subscription:
    """One consumer's place in the delta queue of a set.

    Attributes:
        tokens: Each valid token and the place in the queue it stands for.
        created: When each came to be, and whether it is that of the initial load.
    """

    tokens: dict[str, int] = field(default_factory=dict)
    created: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    answered: dict[str, Answered] = field(default_factory=dict)


class EntitySet:
    """An entity set.

    Args:
        name: ``EntityOf…``, ``FactsOf…`` or ``AttrOf…`` where ODP makes it, anything else otherwise.
        tracked: Whether ODP offers changes of it.
        page: How many rows a page has unless the request says another number; None: all.
        children: Navigation properties, with the set they lead to and the pairs of properties that join them.
        before_images: Whether an update also sends the row as it was, as additive delta does.
    """

    def __init__(
        self,
        name: str,
        properties: Iterable[Property],
        key: tuple[str, ...],
        *,
        tracked: bool = False,
        page: int | None = 100,
        children: Mapping[str, tuple[str, Mapping[str, str]]] | None = None,
        before_images: bool = False,
    ) -> None:
        own = tuple(properties)
        if tracked:
            own += (
                Property(CHANGE_MODE, "Edm.String", {"MaxLength": "1", "sap:label": "Change Mode"}),
                Property(COUNTER, "Edm.Decimal", {"Precision": "19", "Scale": "0", "sap:label": "Entity Counter"}),
            )
        self.name = name
        self.properties = {one.name: one for one in own}
        self.key = key
        self.tracked = tracked
        self.page = page
        self.children = dict(children or {})
        self.before_images = before_images
        self.rows: dict[tuple[Any, ...], Row] = {}
        self.queue: list[Row] = []
        self.subscription: Subscription | None = None
        self.tokens = 0
        self.without_tracking = False

    def put(self, *rows: Row) -> None:
        """Create rows, or change those that are there by key."""
        for row in rows:
            whole = {name: row.get(name) for name in self.properties if name not in (CHANGE_MODE, COUNTER)}
            key = tuple(whole[name] for name in self.key)
            old = self.rows.get(key)
            if old is not None:
                whole = {**old, **row}
                if self.before_images:
                    self.queue.append({**old, CHANGE_MODE: "U", COUNTER: "-1"})
            self.rows[key] = whole
            self.queue.append({**whole, CHANGE_MODE: "C" if old is None else "U", COUNTER: "1"})

    def delete(self, *key: Any) -> None:
        """Delete a row: the queue keeps its key, and that it is gone."""
        del self.rows[key]
        gone: Row = dict.fromkeys(self.properties)
        gone.update(zip(self.key, key, strict=True))
        self.queue.append({**gone, CHANGE_MODE: "D", COUNTER: "-1"})

    def subscribe(self, now: datetime) -> str:
        """Begin anew: what was subscribed is over. Return the first token, which stands for this moment."""
        self.subscription = Subscription()
        return self._token(now, len(self.queue), initial=True)

    def terminate(self) -> bool:
        """End the subscription; return whether there was one."""
        ended = self.subscription is not None
        self.subscription = None
        return ended

    def changes(self, token: str, now: datetime) -> tuple[list[Row], str]:
        """Return what changed after a token, and the token that follows.

        The same token gives the same answer again, until the one that follows is used: that confirms it.

        Raises:
            Refused: The token was never given, was confirmed, or belongs to a subscription that is over.
        """
        subscribed = self.subscription
        if subscribed is None or token not in subscribed.tokens:
            raise Refused.dead_token(token)
        place = subscribed.tokens[token]
        for older in [one for one, until in subscribed.answered.items() if until.following == token]:
            del subscribed.answered[older], subscribed.tokens[older], subscribed.created[older]
        if token not in subscribed.answered:
            following = self._token(now, len(self.queue), initial=False)
            subscribed.answered[token] = Answered(self.queue[place:], len(self.queue), following)
        found = subscribed.answered[token]
        return found.rows, found.following

    def _token(self, now: datetime, place: int, *, initial: bool) -> str:
        assert self.subscription is not None
        self.tokens += 1
        token = f"D{now:%Y%m%d%H%M%S}_{self.tokens:06d}000"
        self.subscription.tokens[token] = place
        self.subscription.created[token] = (now, initial)
        return token


class Service:
    """An OData service: its entity sets, and who may not read it.

    Args:
        refused_to: Users without the authorisation S_SERVICE for it.
    """

    def __init__(self, name: str, sets: Iterable[EntitySet], *, refused_to: Iterable[str] = ()) -> None:
        self.name = name
        self.sets = {one.name: one for one in sets}
        self.refused_to = frozenset(refused_to)


Clock = Callable[[], datetime]
