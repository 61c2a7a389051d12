"""What one run may ask of one source: concurrency, rate, a shared pause, retries, memory, disk."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import anyio
from aiolimiter import AsyncLimiter

from runner.clock import Clock
from runner.errors import Parked, RetryBudgetSpent
from runner.job import Limits

_WINDOW = 5.0
_DECREASE = 0.7
_BUDGET, _RETRY_COST, _SUCCESS_GAIN = 500.0, 5.0, 1.0


class AdaptiveLimit:
    """Additive increase, multiplicative decrease between 1 and a ceiling (Chiu and Jain, 1989).

    One more only while the limit is in use, so that an idle client does not grow; at most one
    decrease a window, so that ten refusals at once count as one.
    """

    def __init__(
        self, ceiling: int, clock: Clock, *, start: int | None = None, changed: Callable[[int], None] = lambda _: None
    ) -> None:
        self.ceiling = ceiling
        self._clock = clock
        self._changed = changed
        self._limiter = anyio.CapacityLimiter(start or ceiling)
        self._credit = 0.0
        self._decreased = float("-inf")

    @property
    def limit(self) -> int:
        """How many may be at work at once, now."""
        return int(self._limiter.total_tokens)

    @property
    def used(self) -> int:
        """How many are at work."""
        return self._limiter.borrowed_tokens

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one slot."""
        holder = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(holder)
        except anyio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(holder)
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(holder)

    def succeeded(self) -> None:
        """Note a success; after as many as the limit is wide, the limit grows by one."""
        if self._limiter.borrowed_tokens * 2 < self._limiter.total_tokens or self.limit >= self.ceiling:
            return
        self._credit += 1 / self.limit
        if self._credit >= 1:
            self._credit = 0.0
            self._set(self.limit + 1)

    def refused(self) -> None:
        """Note a refusal: once a window the limit shrinks."""
        now = self._clock.monotonic()
        if now - self._decreased < _WINDOW:
            return
        self._decreased, self._credit = now, 0.0
        self._set(max(1, int(self.limit * _DECREASE)))

    def _set(self, limit: int) -> None:
        if limit != self.limit:
            self._limiter.total_tokens = limit
            self._changed(limit)


class Pause:
    """One pause that every coroutine of a source waits out together."""

    def __init__(self, clock: Clock, longest: timedelta, started: Callable[[float], None] = lambda _: None) -> None:
        self._clock = clock
        self._longest = longest.total_seconds()
        self._started = started
        self._until = float("-inf")
        self._reason: str | None = None

    def request(self, seconds: float, reason: str | None = None) -> None:
        """Pause the source for that long; a shorter request inside a longer one changes nothing."""
        until = self._clock.monotonic() + seconds
        if until > self._until:
            self._reason = reason
            if self._until <= self._clock.monotonic():
                self._started(seconds)
            self._until = until

    def left(self) -> float:
        """Return the seconds until the pause is over."""
        return max(0.0, self._until - self._clock.monotonic())

    def resume_at(self) -> datetime | None:
        """Return when the pause ends, where that is too far off to wait for."""
        left = self._until - self._clock.monotonic()
        return self._clock.now() + timedelta(seconds=left) if left > self._longest else None

    async def wait(self) -> None:
        """Wait until the pause is over.

        Raises:
            Parked: It lasts longer than a slot may be held.
        """
        while (left := self._until - self._clock.monotonic()) > 0:
            resume_at = self.resume_at()
            if resume_at is not None:
                message = f"{self._reason} Parked until {resume_at:%Y-%m-%d %H:%M:%S} UTC." if self._reason else None
                raise Parked(resume_at, message)
            await self._clock.sleep(left)


class RetryBudget:
    """A bucket that retries drain and successes fill: a source that is down is left alone.

    The numbers are those of the AWS SDKs' standard retry mode (capacity 500, 5 a retry, 1 back).
    """

    def __init__(self) -> None:
        self.left = _BUDGET

    def spend(self) -> None:
        """Pay for one retry.

        Raises:
            RetryBudgetSpent: The bucket is empty.
        """
        if self.left < _RETRY_COST:
            raise RetryBudgetSpent
        self.left -= _RETRY_COST

    def earn(self) -> None:
        """Note a success."""
        self.left = min(_BUDGET, self.left + _SUCCESS_GAIN)


class SourceLimits:
    """Everything that all coroutines of one source share; nested in one order, so nothing deadlocks.

    Attributes:
        each: Whether the source asks for each of its requests (``runner.requests``).
    """

    def __init__(
        self,
        clock: Clock,
        *,
        connections: int,
        rate: float | None,
        park: timedelta,
        limit_changed: Callable[[int], None] = lambda _: None,
        paused: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.concurrency = AdaptiveLimit(connections, clock, changed=limit_changed)
        self.pause = Pause(clock, park, paused)
        self.each = False
        self.budget = RetryBudget()
        self._rate = AsyncLimiter(max(1.0, rate), 1.0 if rate >= 1 else 1 / rate) if rate else None

    @classmethod
    def of(
        cls,
        limits: Limits,
        clock: Clock,
        *,
        limit_changed: Callable[[int], None] = lambda _: None,
        paused: Callable[[float], None] = lambda _: None,
    ) -> SourceLimits:
        """Return what a job's limits say."""
        return cls(
            clock,
            connections=limits.connections,
            rate=limits.rate,
            park=limits.park,
            limit_changed=limit_changed,
            paused=paused,
        )

    @contextlib.asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Hold a slot for one piece of work, after the pause and within the rate.

        A source that asks for each of its requests holds no slot for what causes them: a piece of work would wait for
        itself.

        Raises:
            Parked: The source is paused for longer than a slot may be held.
        """
        if self.each:
            await self.pause.wait()
            yield
            return
        async with self.single():
            yield

    @contextlib.asynccontextmanager
    async def single(self) -> AsyncIterator[None]:
        """Hold a slot for one request, after the pause and within the rate.

        Raises:
            Parked: The source is paused for longer than a slot may be held.
        """
        await self.pause.wait()
        async with self.concurrency.slot():
            await self.pause.wait()
            if self._rate is not None:
                await self._rate.acquire()
                await self.pause.wait()
            yield


class Budget:
    """Bytes of memory or disk, reserved before they are used, served first come first served."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.peak = 0
        self._queue: deque[tuple[int, anyio.Event]] = deque()

    async def reserve(self, amount: int) -> int:
        """Wait until that much is free, and take it.

        Returns:
            What was taken: never more than the whole budget, so that nothing waits for ever.
        """
        amount = min(amount, self.total)
        if self._queue or self.used + amount > self.total:
            event = anyio.Event()
            self._queue.append((amount, event))
            try:
                await event.wait()
            except BaseException:
                if event.is_set():
                    self.release(amount)
                else:
                    self._queue.remove((amount, event))
                    self._serve()
                raise
        else:
            self._take(amount)
        return amount

    def grow(self, amount: int) -> bool:
        """Take more without waiting; tell whether it was there."""
        if self.used + amount > self.total:
            return False
        self._take(amount)
        return True

    def take(self, amount: int) -> None:
        """Take what is in use already, whatever the budget says."""
        self._take(amount)

    def release(self, amount: int) -> None:
        """Give back."""
        self.used -= amount
        self._serve()

    def _take(self, amount: int) -> None:
        self.used += amount
        self.peak = max(self.peak, self.used)

    def _serve(self) -> None:
        while self._queue and self.used + self._queue[0][0] <= self.total:
            amount, event = self._queue.popleft()
            self._take(amount)
            event.set()
