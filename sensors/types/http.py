"""A JSON endpoint: an event for each item that is new in its answer, or whenever the answer is another one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, urlencode, urlsplit

import anyio
from pydantic import AfterValidator, Field, model_validator

from connectors.http import Http, HttpConfig, NoAuth, Reply, Requests
from connectors.rest.credentials import Auth, make_auth
from connectors.rest.jsonpaths import JsonPath, compiled
from connectors.rest.usage import usage
from runner.errors import SensorError, Throttled, UsageError
from runner.job import Retry
from runner.naming import fingerprint
from runner.secrets import redact
from runner.units import Size
from sensors.room import Room
from sensors.sensor import Event, Polled, Sensor, SensorConfig, Setting
from sensors.types.items import Answer, Rank, digest, named, ordering, rank, ranked, select

# A poll comes again by itself: here only what a lost connection costs is made good.
_RETRY = Retry(attempts=2, max_wait=timedelta(seconds=1), deadline=timedelta(seconds=20))
# An answer goes along with every event of it, up to so many bytes.
_BODY = 2**16
# So many items that are gone are remembered, lest they fire when they return.
_GONE = 10_000


def _path(text: str) -> str:
    compiled(text)
    return text


PathText = Annotated[str, AfterValidator(_path)]


class HttpSensorConfig(SensorConfig):
    """The keys of a sensor of type http."""

    url: str = Field(description="of one system: other hosts are never asked", repr=False)
    method: Literal["GET", "POST"] = Field("GET", description="a POST must change nothing at the server")
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    params: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict, repr=False)
    json_: Any = Field(None, alias="json", description="what is posted", repr=False)
    auth: Auth = Field(None, description="as in a source of type rest", repr=False)
    select: PathText | None = Field(None, description="JSONPath of the items; the whole answer by default")
    key: PathText | list[PathText] | None = Field(
        None, description="what in an item makes the event, one path or several; all of it by default"
    )
    order: PathText | None = Field(None, description="what orders items: those below what was seen are not new")
    changed: Literal["items", "body"] = Field("items", description="body: an event for each answer that is another one")
    reappeared: Literal["ignore", "fire"] = Field("ignore", description="an item that was gone and comes again")
    max_response: Size = Field(16 * 2**20, description="a larger answer is refused")
    ca_file: str | None = Field(None, description="certificates to trust besides the system's")

    @model_validator(mode="after")
    def _together(self) -> HttpSensorConfig:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url: write it as https://host/path")
        if parts.username or parts.password:
            raise ValueError("url: say who you are by auth, not in the address")
        if self.json_ is not None and self.method != "POST":
            raise ValueError("json is posted: say method: POST")
        if self.changed == "body" and (self.key or self.order or self.reappeared == "fire"):
            raise ValueError("changed: body knows no items: leave out key, order and reappeared")
        if self.order and self.reappeared == "fire":
            raise ValueError("order decides what is new: leave out reappeared")
        return self


class HttpSensor(Sensor[HttpSensorConfig]):
    """A JSON endpoint that is polled.

    The values of an event are the fields of its item (``value`` where it has none) and ``body``, the whole answer,
    where that has 64 KiB or less and the item no field of that name.
    """

    kind: ClassVar[str] = "http"
    config_model: ClassVar[type[SensorConfig]] = HttpSensorConfig

    def __init__(self, setting: Setting, room: Room) -> None:
        super().__init__(setting, room)
        config = self.config
        parts = urlsplit(config.url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        query = "&".join(filter(None, (parts.query, _query(config.params))))
        self._target = (parts.path or "/") + (f"?{query}" if query else "")
        self._where = redact(f"{config.method} {self._origin}{parts.path}")
        auth = config.auth.model_dump(mode="json") if config.auth else None
        self._system = ("http", fingerprint([self._origin, auth, config.ca_file]))
        asked = [config.method, self._target, config.headers, config.json_, config.max_response]
        self._share = fingerprint(asked)
        keys = [config.key] if isinstance(config.key, str) else config.key or []
        self._select = compiled(config.select) if config.select else None
        self._keys = [compiled(one) for one in keys]
        self._order = compiled(config.order) if config.order else None
        self._http: Http | None = None
        if setting.start not in ("now", "beginning"):
            if self._order is None:
                raise UsageError("cursor: only items that have an `order` can begin at a value: say now or beginning.")
            ranked(setting.start, "cursor")

    @property
    def system(self) -> Hashable:
        return self._system

    @property
    def share(self) -> Hashable:
        return self._share

    def describe(self) -> str:
        return self._where

    async def poll(self, cursor: Any) -> Polled:
        http = self._http or await self._connected()
        last: Mapping[str, Any] = cursor or {}
        known = (last.get("etag"), last.get("modified"))
        answer = await self.look(partial(self._ask, http, known), known)
        if answer.unchanged:
            return Polled(cursor=cursor, note="not modified (304)")
        kept = {"seq": last.get("seq", 0), "raw": answer.digest, "etag": answer.etag, "modified": answer.modified}
        if answer.digest == last.get("raw"):
            return Polled(cursor={**last, **kept}, note="the same answer")
        data = await answer.data()
        found = select(self._select, data)
        kept["seq"] += 1
        if self.config.changed == "body":
            return await self._body(answer, data, found, last, kept)
        if found is None:
            return Polled(cursor={**last, **kept}, note=f"nothing lies at {self.config.select}")
        items = await _threaded(answer, named, found, self._keys)
        if self._order is not None:
            return await self._ordered(answer, data, items, last, kept)
        return await self._listed(answer, data, items, first=cursor is None, kept=kept)

    # What is asked.

    async def _connected(self) -> Http:
        config, setting = self.config, self.setting
        # The first who asks says what all sensors of the system keep to.
        limits = self.room.limits(self.system, setting.limits)
        limits.each = True
        clock = self.room.clock
        requests = Requests(
            limits,
            clock,
            retry=_RETRY,
            quota=setting.limits.quota,
            # A pause is for all of the system: the next poll waits it out, not this one.
            again=lambda error: not isinstance(error, Throttled),
        )

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[Http]:
            options = HttpConfig(max_response=config.max_response, ca_file=config.ca_file)
            auth = make_auth(config.auth) if config.auth else NoAuth()
            async with Http(
                options,
                base=self._origin,
                auth=auth,
                requests=requests,
                usage=lambda reply: usage(reply, now=clock.now()) if setting.limits.quota else (),
            ) as http:
                yield http

        self._http = await self.room.connection((self.system, config.max_response), connect)
        return self._http

    async def _ask(self, http: Http, known: tuple[str | None, str | None]) -> Answer:
        config = self.config
        if config.method == "POST":
            reply = await http.post(self._target, idempotent=True, json=config.json_, headers=config.headers)
            return Answer(reply.body, etag=None, modified=None)
        etag, modified = known
        headers = {"Accept": "application/json", **config.headers}
        if etag is not None:
            headers["If-None-Match"] = etag
        elif modified is not None:
            headers["If-Modified-Since"] = modified
        conditional = etag is not None or modified is not None
        reply = await http.get(self._target, headers=headers, expected=(304,) if conditional else ())
        if reply.status == 304:
            return Answer(b"", etag=etag, modified=modified, unchanged=True)
        return Answer(reply.body, etag=reply.header("ETag"), modified=_modified(reply))

    # What is new.

    async def _body(
        self, answer: Answer, data: Any, found: Sequence[Any] | None, last: Mapping[str, Any], kept: dict[str, Any]
    ) -> Polled:
        part = await _threaded(answer, digest, found)
        kept["part"] = part
        # Before the first answer there was none to differ from.
        fires = part != last["part"] if "part" in last else self.setting.start == "beginning"
        if not fires:
            return Polled(cursor=kept, note="what is selected did not change")
        # What was seen before may come again, and is another change.
        item = found[0] if found is not None and len(found) == 1 else found
        return Polled([Event(f"{part}@{kept['seq']}", _values(item, answer, data))], kept)

    async def _listed(
        self, answer: Answer, data: Any, items: Mapping[str, Any], *, first: bool, kept: dict[str, Any]
    ) -> Polled:
        seen = await self.room.memory.recall(self.setting.name)
        seq, fire = kept["seq"], self.config.reappeared == "fire"
        # An empty text is an item that is there; else it is since when it is gone.
        new = [key for key in items if key not in seen or (fire and seen[key])]
        remember: dict[str, str | None] = {key: "" for key in items if seen.get(key) != ""}
        gone = {key: int(since) if since else seq for key, since in seen.items() if key not in items}
        remember |= {key: str(seq) for key in gone if not seen[key]}
        if first and self.setting.start == "now":
            new = []
        for key in sorted(gone, key=gone.__getitem__)[: max(0, len(gone) - _GONE)]:
            remember[key] = None
        events = [Event(f"{key}@{seq}" if fire else key, _values(items[key], answer, data)) for key in new]
        return Polled(events, kept, remember, note=f"{len(items):,} items, {len(new):,} new")

    async def _ordered(
        self, answer: Answer, data: Any, items: Mapping[str, Any], last: Mapping[str, Any], kept: dict[str, Any]
    ) -> Polled:
        path = self._order
        assert path is not None
        start = self.setting.start
        given = not last and start not in ("now", "beginning")
        mark = start if given else last.get("order")
        # What lies at a value that somebody named is not new; what lies at the last item seen may be.
        closed = given or bool(last.get("closed"))
        ranks = await _threaded(answer, _ranks, items, path)
        seen = await self.room.memory.recall(self.setting.name)
        floor = None if mark is None else ranked(mark, path.text)
        above = {
            key: place
            for key, place in ranks.items()
            if floor is None or _above(place, floor) or (place == floor and not closed and key not in seen)
        }
        new = sorted(above, key=lambda key: above[key])
        if new:
            mark, floor, closed = ordering(items[new[-1]], path), above[new[-1]], False
        kept |= {"order": mark, "closed": closed}
        at_mark = {key for key, place in ranks.items() if place == floor}
        remember: dict[str, str | None] = {key: "" for key in at_mark if key not in seen}
        if new:
            remember |= {key: None for key in seen if key not in at_mark}
        if not last and start == "now":
            new = []
        events = [Event(key, _values(items[key], answer, data), _moment(ranks[key])) for key in new]
        return Polled(events, kept, remember, note=f"{len(items):,} items, {len(new):,} new")


def _values(item: Any, answer: Answer, data: Any) -> dict[str, Any]:
    values = dict(item) if isinstance(item, Mapping) else {"value": item}
    if len(answer.body) <= _BODY:
        values.setdefault("body", data)
    return values


def _ranks(items: Mapping[str, Any], path: JsonPath) -> dict[str, Rank]:
    found = {key: rank(item, path) for key, item in items.items()}
    kinds = {place[0] for place in found.values()}
    if len(kinds) > 1:
        raise _mixed(path.text)
    return found


def _above(place: Rank, floor: Rank) -> bool:
    if place[0] != floor[0]:
        raise _mixed("order")
    return place > floor


def _mixed(name: str) -> SensorError:
    return SensorError(
        f"{name}: numbers, times and texts are mixed, which have no order.",
        guidance="Name another field, or leave `order` out.",
    )


def _moment(place: Rank) -> datetime | None:
    return place[1] if place[0] == 1 else None


async def _threaded(answer: Answer, work: Any, *arguments: Any) -> Any:
    """Do something with an answer, in a thread where it is large."""
    return await anyio.to_thread.run_sync(work, *arguments) if answer.large else work(*arguments)


def _modified(reply: Reply) -> str | None:
    """Return Last-Modified where it tells every change: it was a second old at least (RFC 9110, 8.8.2.2)."""
    text, now = reply.header("Last-Modified"), reply.header("Date")
    if text is None or now is None:
        return None
    try:
        age = _utc(parsedate_to_datetime(now)) - _utc(parsedate_to_datetime(text))
    except ValueError:
        return None
    return text if age >= timedelta(seconds=1) else None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _query(params: Mapping[str, Any]) -> str:
    pairs = [(name, one) for name, value in params.items() for one in (value if isinstance(value, list) else [value])]
    told = [(name, str(one).lower() if isinstance(one, bool) else str(one)) for name, one in pairs]
    return urlencode(told, quote_via=quote, safe="$")
