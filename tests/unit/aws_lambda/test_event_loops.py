"""The event loops of functions that ask for the current one."""

import asyncio
import json
import threading

import pytest

from wsaas.aws_lambda.event_loops import EventLoops
from wsaas.aws_lambda.function import Function


class ClosedLater(EventLoops):
    """Knows the loops that it has made, so that they can be closed."""

    def __init__(self):
        super().__init__()
        self.made = []

    def new_event_loop(self):
        self.made.append(super().new_event_loop())
        return self.made[-1]


@pytest.fixture
def loops():
    """The policy of asyncio for this test."""
    before, policy = asyncio.get_event_loop_policy(), ClosedLater()
    asyncio.set_event_loop_policy(policy)
    yield policy
    asyncio.set_event_loop_policy(before)
    for loop in policy.made:
        loop.close()


def invoke(handler, loops):
    answer = Function("app.handler", handler, 10.0, loops).invoke(b"{}")
    return json.loads(answer.body)


async def double(number):
    await asyncio.sleep(0)
    return number * 2


def test_invocations_one_after_the_other_have_the_loop_of_the_module(loops):
    of_module = asyncio.get_event_loop()
    loops.release()
    seen = []

    def handler(_event, _context):
        loop = asyncio.get_event_loop()
        seen.append(loop)
        assert asyncio.get_event_loop() is loop
        return loop.run_until_complete(double(21))

    assert [invoke(handler, loops) for _ in range(2)] == [42, 42]
    assert seen == [of_module, of_module]


def test_invocations_at_the_same_time_have_a_loop_each(loops):
    barrier = threading.Barrier(2, timeout=20.0)

    def handler(_event, _context):
        loop = asyncio.get_event_loop()
        barrier.wait()
        return [id(loop), loop.run_until_complete(double(1))]

    answers = []
    threads = [threading.Thread(target=lambda: answers.append(invoke(handler, loops))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    (first, two), (second, also_two) = answers
    assert first != second
    assert (two, also_two) == (2, 2)


@pytest.mark.parametrize("end", [lambda: asyncio.run(double(1)), lambda: asyncio.get_event_loop().close()])
def test_a_loop_that_was_closed_is_not_used_again(loops, end):
    def handler(_event, _context):
        end()

    assert invoke(handler, loops) is None
    assert invoke(lambda *_: asyncio.get_event_loop().run_until_complete(double(2)), loops) == 4


def test_a_loop_comes_back_after_an_exception(loops, capfd):
    def handler(_event, _context):
        raise ValueError(str(id(asyncio.get_event_loop())))

    assert invoke(handler, loops)["errorMessage"] == invoke(handler, loops)["errorMessage"]
    assert "[ERROR] ValueError" in capfd.readouterr().err
