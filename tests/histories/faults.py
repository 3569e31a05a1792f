"""The faults: processes freeze and die, clocks step, servers are away, all processes are away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.histories.world import World

HOURS = (3600.0, 9000.0)


class Troubles:
    """Draws them, one after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._away_until = 0.0

    @property
    def all_are_away(self) -> bool:
        return self._world.loop.time() < self._away_until

    async def supervise(self) -> None:
        """Start dead or ended processes again, for ever, unless the whole system is away."""
        while True:
            await asyncio.sleep(self._world.draw.choice((0.5, 0.5, 3.0)))
            if not self.all_are_away:
                self._raise_the_dead()

    async def run(self) -> None:
        """For ever, until cancelled."""
        world = self._world
        kinds = [
            (self._worker_stalls, 12), (self._worker_dies, 8), (self._dispatcher_stalls, 10),
            (self._dispatcher_dies, 5), (self._clock_steps, 5), (self._database_away, 4), (self._broker_away, 4),
            (self._broker_forgets, 2), (self._service_away, 4), (self._all_away, 2), (self._lid_is_closed, 2),
            (self._web_stalls, 2),
        ]  # fmt: skip
        while True:
            await asyncio.sleep(world.draw.expovariate(1 / world.profile.seconds_between_troubles))
            trouble = world.draw.choices([each for each, _ in kinds], [weight for _, weight in kinds])[0]
            world.note(f"trouble: {trouble.__name__.strip('_').replace('_', ' ')}")
            trouble()

    def end(self) -> None:
        """Everything is there again, and goes on."""
        world, now = self._world, self._world.loop.time()
        for part in (*world.workers, *world.dispatchers):
            part.process.frozen_until = min(part.process.frozen_until, now)
        world.web.frozen_until = 0.0
        world.database_away_until = world.broker.away_until = 0.0
        for service in world.services.values():
            service.away_until = 0.0
        self._away_until = 0.0
        world.by_sql("DELETE FROM pause")

    def _raise_the_dead(self) -> None:
        world = self._world
        while len([each for each in world.workers if not each.process.is_dead and not each.is_ending]) < 2:
            world.start_worker()
        while len([each for each in world.dispatchers if not each.process.is_dead]) < 2:
            world.start_dispatcher()

    def _long(self) -> float:
        draw = self._world.draw
        return draw.choice((3.0, 12.0, 40.0, 100.0, 700.0)) * draw.random()

    def _worker_stalls(self) -> None:
        living = [each for each in self._world.workers if not each.process.is_dead]
        if living:
            self._world.draw.choice(living).stall(self._long())

    def _worker_dies(self) -> None:
        living = [each for each in self._world.workers if not each.process.is_dead]
        if living:
            draw = self._world.draw
            draw.choice(living).die(is_seen=draw.random() < 0.6)

    def _dispatcher_stalls(self) -> None:
        living = [each for each in self._world.dispatchers if not each.process.is_dead]
        if living:
            process = self._world.draw.choice(living).process
            process.frozen_until = self._world.loop.time() + self._long()

    def _dispatcher_dies(self) -> None:
        living = [each for each in self._world.dispatchers if not each.process.is_dead]
        if living:
            self._world.draw.choice(living).die()

    def _clock_steps(self) -> None:
        draw = self._world.draw
        self._world.clock.step(draw.choice((-1, 1)) * draw.choice((0.5, 8.0, 100.0, *HOURS)) * draw.random())

    def _database_away(self) -> None:
        self._world.database_away_until = self._world.loop.time() + self._world.draw.choice((2.0, 12.0, 60.0))
        self._world.disturbed_at = self._world.database_away_until

    def _broker_away(self) -> None:
        self._world.broker.away_until = self._world.loop.time() + self._world.draw.choice((1.0, 20.0))

    def _broker_forgets(self) -> None:
        self._world.broker.forget()

    def _service_away(self) -> None:
        service = self._world.draw.choice(list(self._world.services.values()))
        service.away_until = self._world.loop.time() + self._world.draw.choice((5.0, 60.0, 500.0))

    def _all_away(self) -> None:
        """The house is stopped, or loses its power, for longer than every limit; services work on."""
        world, draw = self._world, self._world.draw
        for part in list(world.workers):
            part.die(is_seen=draw.random() < 0.5)
        for dispatcher in list(world.dispatchers):
            dispatcher.die()
        world.broker.forget()
        self._away_until = world.disturbed_at = world.loop.time() + draw.choice((60.0, 400.0, 2000.0))

    def _lid_is_closed(self) -> None:
        """Wall time passes, and no monotonic clock moves."""
        self._world.clock.step(self._world.draw.choice(HOURS) * self._world.draw.random())

    def _web_stalls(self) -> None:
        self._world.web.frozen_until = self._world.loop.time() + self._long()
