"""The work queue, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from kinase_kube import WorkQueue
from tests.unit.kube.virtual import now, run


def waiting(queue: WorkQueue[str]) -> list[str]:
    """The keys that could be taken now."""
    return list(queue._waiting._queue)  # type: ignore[attr-defined]


def test_a_key_that_waits_is_there_once() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for key in "aabab":
            queue.add(key)
        assert waiting(queue) == ["a", "b"]
        assert len(queue) == 2

    run(main())


def test_a_key_that_is_worked_on_comes_again_afterwards_and_only_then() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert waiting(queue) == []
        queue.done("a")
        assert waiting(queue) == ["a"]
        await queue.get()
        queue.done("a")
        assert waiting(queue) == []
        assert len(queue) == 0

    run(main())


def test_many_workers_never_work_on_one_key_at_once_and_forget_none() -> None:
    async def main() -> None:
        queue: WorkQueue[int] = WorkQueue()
        active: set[int] = set()
        done: dict[int, int] = {}
        wanted: dict[int, int] = {}

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in active
                active.add(key)
                seen = wanted[key]
                await asyncio.sleep(0.3)
                done[key] = seen
                active.discard(key)
                queue.done(key)

        workers = [asyncio.create_task(work()) for _ in range(8)]
        for turn in range(200):
            key = turn * 7 % 5
            wanted[key] = turn
            queue.add(key)
            await asyncio.sleep(0.05)
        await asyncio.sleep(2)
        assert done == wanted  # the last word on every key was worked on
        for worker in workers:
            assert not worker.done()
            worker.cancel()

    run(main())


def test_retries_wait_longer_each_time_up_to_a_limit_and_begin_anew_once_forgotten() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(base=1.0, most=10.0)
        delays = []
        for _ in range(100):
            delays.append(queue.retry("a"))
            began = now()
            assert await queue.get() == "a"
            assert now() - began == pytest.approx(delays[-1])
            queue.done("a")
        for delay, middle in zip(delays, [1, 2, 4, 8, 10, 10], strict=False):
            assert 0.8 * middle <= delay <= 1.2 * middle
        queue.forget("a")
        assert queue.retry("a") <= 1.2

    run(main())


@pytest.mark.parametrize("order", [(5.0, 2.0), (2.0, 5.0)])
def test_of_two_delays_the_earlier_wins_and_the_key_comes_once(order: tuple[float, float]) -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for delay in order:
            queue.add_after("a", delay)
        await queue.get()
        assert now() == pytest.approx(2.0)
        queue.done("a")
        await asyncio.sleep(10)
        assert waiting(queue) == []

    run(main())


def test_no_delay_is_at_once_and_an_add_does_not_wait_for_a_delay() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 0.0)
        queue.add_after("b", 5.0)
        queue.add("b")
        assert waiting(queue) == ["a", "b"]

    run(main())


def test_a_delay_that_ends_while_the_key_is_worked_on_is_not_lost() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add_after("a", 1.0)
        await asyncio.sleep(2)
        assert waiting(queue) == []
        queue.done("a")
        assert waiting(queue) == ["a"]

    run(main())


def test_a_closed_queue_rings_no_more() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 1.0)
        queue.close()
        await asyncio.sleep(2)
        assert waiting(queue) == []

    run(main())


def test_how_long_a_key_was_in_the_queue_is_told() -> None:
    async def main() -> None:
        waits: list[tuple[str, float]] = []
        queue: WorkQueue[str] = WorkQueue(waited=lambda key, seconds: waits.append((key, seconds)))
        queue.add("a")
        queue.add("a")
        await queue.get()
        queue.add("a")  # it waits from when it may be taken again
        queue.done("a")
        await queue.get()
        assert [key for key, _ in waits] == ["a", "a"]
        assert all(0 <= seconds < 1 for _, seconds in waits)

    run(main())
