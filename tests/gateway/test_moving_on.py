"""A node that fails, is busy or falls silent: who answers instead, who hears of it, and what the client gets."""

import msgspec
import pytest
from tests.gateway.conftest import (
    BODY,
    SSE_HEAD,
    STREAM,
    WHOLE,
    Conversation,
    Held,
    House,
    Script,
    answers,
    breaks_after,
    chunk,
    post,
    until,
    whole,
)

from llm_router.core.health import Signal
from llm_router.gateway.inference import OFFLINE_PATIENCE

LAST = b"0\r\n\r\n"
FIRST_CHUNK = chunk(b"data: 1\n\n")
BROKEN = ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"]
CALLERS_FAULT = ["400 Bad Request", "401 Unauthorized", "413 Content Too Large", "422 Unprocessable Content"]
LATER = 601.0  # seconds: one more than a node has to begin its answer


def says(status: str, headers: bytes = b"", body: bytes = b'{"error":"own words"}') -> Script:
    """Every request is answered with this status."""
    return answers(whole(body, status.encode()).replace(b"\r\n", b"\r\n" + headers, 1))


BUSY = {
    "429": says("429 Too Many Requests", b"Retry-After: 7\r\n"),
    "503 with Retry-After": says("503 Service Unavailable", b"Retry-After: 7\r\n"),
    "504 with Retry-After": says("504 Gateway Timeout", b"Retry-After: 7\r\n"),  # an agent's own queue was too long
}


async def resets(conversation: Conversation) -> None:
    await conversation.request()
    conversation.reset()


def goes_offline(house: House, name: str) -> None:
    house.registry.signal(name, Signal.SILENT, house.plane.now())


def is_given_up(house: House, name: str) -> bool:
    """Whether the node's requests are taken from it once its patience is over."""
    house.look()
    house.look(OFFLINE_PATIENCE + 1)
    return not house.registry.nodes[name].in_flight


class TestAnswers:
    """What a node answers, and what it means (C6)."""

    @pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
    @pytest.mark.parametrize("status", BROKEN)
    async def test_a_broken_node_is_replaced_and_told(self, house: House, status: str, body: bytes) -> None:
        """B5, C6: the router hears of it, and that the node is there."""
        await house.node("bad", says(status))
        await house.node("good", answers(whole()))
        client = await post(house, body)
        code, headers, answer = await client.answer()
        assert (code, headers["x-llm-router-node"], answer) == (200, "good", WHOLE)
        assert "x-queue-wait-ms" not in headers
        assert house.failures == [("bad", f"answered with status {status[:3]}")]
        assert house.unreachable == []
        (record,) = await house.settled()
        assert (record.node, record.attempts, record.error) == ("good", 2, "")

    @pytest.mark.parametrize("script", BUSY.values(), ids=BUSY)
    async def test_a_busy_node_is_passed_over_in_silence(self, house: House, script: Script) -> None:
        """C6: busy is no failure."""
        await house.node("busy", script)
        await house.node("good", answers(whole()))
        assert (await (await post(house)).answer())[1]["x-llm-router-node"] == "good"
        assert house.failures == []
        await house.settled()

    async def test_a_model_that_a_node_has_lost_is_looked_for_elsewhere(self, house: House) -> None:
        """C6: deleted since it was listed; a 4xx never excludes."""
        await house.node("lost", says("404 Not Found"))
        await house.node("good", answers(whole()))
        assert (await (await post(house)).answer())[1]["x-llm-router-node"] == "good"
        assert house.failures == []
        await house.settled()

    @pytest.mark.parametrize("status", CALLERS_FAULT)
    async def test_the_callers_own_fault_is_passed_on(self, house: House, status: str) -> None:
        """C6: another node would say the same; nobody is blamed."""
        await house.node("one", says(status))
        other = await house.node("two", answers(whole()))
        code, headers, body = await (await post(house)).answer()
        assert (code, headers["x-llm-router-node"], body) == (int(status[:3]), "one", b'{"error":"own words"}')
        assert (other.connections, house.failures) == (0, [])
        (record,) = await house.settled()
        assert (record.outcome, record.status, record.attempts) == ("done", code, 1)

    async def test_a_node_that_does_not_let_the_router_in(self, house: House) -> None:
        """A10: that is the node's fault and no client's; another one answers."""
        await house.node("shut", says("401 Unauthorized"))
        house.registry.nodes["shut"].access = b"authorization: Bearer no longer right\r\n"
        await house.node("open", answers(whole()))
        assert (await (await post(house)).answer())[1]["x-llm-router-node"] == "open"
        assert [node for node, _ in house.failures] == ["shut"]
        await house.settled()

    @pytest.mark.parametrize("status", BROKEN)
    async def test_the_only_nodes_failure_is_passed_on_and_told(self, house: House, status: str) -> None:
        """B5, C6: nobody else can answer, so the client reads what the node said."""
        await house.node("one", says(status))
        code, _, body = await (await post(house)).answer()
        assert (code, body) == (int(status[:3]), b'{"error":"own words"}')
        assert [node for node, _ in house.failures] == ["one"]
        (record,) = await house.settled()
        assert (record.status, record.attempts) == (code, 1)

    @pytest.mark.parametrize("script", BUSY.values(), ids=BUSY)
    async def test_when_every_node_is_busy_the_last_one_says_when_to_come_back(
        self, house: House, script: Script
    ) -> None:
        """B3, C6: with its own Retry-After."""
        await house.node("one", script)
        await house.node("two", script)
        code, headers, _ = await (await post(house)).answer()
        assert (code in {429, 503, 504}, headers["retry-after"]) == (True, "7")
        assert house.failures == []
        (record,) = await house.settled()
        assert record.attempts == 2

    async def test_every_node_is_tried_once(self, house: House) -> None:
        """B5: and each failure is told."""
        for name in ("one", "two", "three"):
            await house.node(name, says("500 Internal Server Error"))
        assert (await (await post(house)).answer())[0] == 500
        assert sorted(node for node, _ in house.failures) == ["one", "three", "two"]
        (record,) = await house.settled()
        assert record.attempts == 3


class TestConnections:
    """What happens to a connection before the first byte of an answer (B5, C6)."""

    @pytest.mark.parametrize(
        "script",
        [
            resets,
            breaks_after(),
            breaks_after(b"garbage\r\n\r\n"),
            breaks_after(b"HTTP/1.1 200"),
            breaks_after(b"HTTP/1.1 102 Processing\r\n\r\n"),
            breaks_after(whole()[:-1]),
            breaks_after(SSE_HEAD),
        ],
        ids=["reset", "closed", "garbage", "half a head", "interim", "half an answer", "a head alone"],
    )
    async def test_a_node_that_breaks_off_is_replaced(self, house: House, script: Script) -> None:
        """B5: the router hears that it may not be there at all."""
        await house.node("bad", script)
        await house.node("good", answers(whole()))
        code, headers, body = await (await post(house)).answer()
        assert (code, headers["x-llm-router-node"], body) == (200, "good", WHOLE)
        assert house.unreachable == ["bad"]
        (record,) = await house.settled()
        assert record.attempts == 2

    async def test_a_node_that_refuses_connections_is_replaced(self, house: House) -> None:
        """B5, E1: at the first failed request."""
        await (await house.node("bad", breaks_after())).stop()
        await house.node("good", answers(whole()))
        assert (await (await post(house)).answer())[1]["x-llm-router-node"] == "good"
        assert house.unreachable == ["bad"]
        await house.settled()

    async def test_what_a_failed_node_sent_is_not_counted(self, house: House) -> None:
        """B5: tokens and times in the record are those of the node that answered."""
        await house.node("bad", breaks_after(whole(WHOLE + b"  ")[:-1]))
        await house.node("good", answers(whole(b'{"choices":[]}')))
        assert (await (await post(house)).answer())[1]["x-llm-router-node"] == "good"
        (record,) = await house.settled()
        assert (record.prompt_tokens, record.completion_tokens) == (0, 0)

    @pytest.mark.parametrize("script", [says(BROKEN[0]), breaks_after()], ids=["500", "closed"])
    async def test_while_the_others_are_busy_it_waits_for_them(self, house: House, script: Script) -> None:
        """B5, D5: the client notices nothing but the time."""
        await house.node("good", answers(whole()), slots=1)
        lease = house.occupy()
        await house.node("bad", script)
        client = await post(house)
        await house.waiting(1)
        house.vacate(lease)
        code, headers, _ = await client.answer()
        assert (code, headers["x-llm-router-node"], "x-queue-wait-ms" in headers) == (200, "good", True)
        (record,) = await house.settled()
        assert (record.attempts, record.outcome) == (2, "done")
        assert record.waited > 0

    async def test_a_client_that_leaves_while_it_waits_for_the_others(self, house: House) -> None:
        """B6: its second wait is as easily given up as its first."""
        good = await house.node("good", answers(whole()), slots=1)
        lease = house.occupy()
        await house.node("bad", breaks_after())
        client = await post(house)
        await house.waiting(1)
        client.abort()
        await house.waiting(0)
        house.vacate(lease)
        assert [r.outcome for r in await house.settled()] == ["cancelled"]
        assert good.connections == 0

    async def test_a_node_shall_not_compress(self, house: House) -> None:
        """B1: its answer is read on its way, and may have to follow signs of life."""
        script = Held(whole())
        script.go.set()
        await house.node("one", script)
        client = await post(house, headers="Accept-Encoding: gzip\r\nAccept: */*\r\n")
        assert (await client.answer())[0] == 200
        assert b"accept-encoding" not in script.requests[0].lower()
        assert b"accept: */*" in script.requests[0].lower()
        await house.settled()


class TestAnswerTimeout:
    """A node that takes the request and says nothing (C6, E2)."""

    async def test_another_node_takes_over(self, still: House) -> None:
        """B5: after `answer_timeout`, the request is taken from it."""
        hangs = Held()
        await still.node("bad", hangs)
        client = await post(still)
        await hangs.asked.wait()
        await still.node("good", answers(whole()))
        still.look(LATER)
        assert (await client.answer())[1]["x-llm-router-node"] == "good"
        assert still.unreachable == ["bad"]
        assert "no answer within 600 s" in still.failures[0][1]
        await still.settled()

    async def test_when_nobody_is_left_it_is_504(self, still: House) -> None:
        """B3: and the client hears whose fault it was."""
        hangs = Held(first=SSE_HEAD)
        await still.node("one", hangs)
        client = await post(still, STREAM)
        await hangs.asked.wait()
        still.look(LATER)
        code, _, body = await client.answer()
        assert (code, b"node 'one' failed: no answer within 600 s" in body) == (504, True)
        (record,) = await still.settled()
        assert (record.outcome, record.status) == ("failed", 504)

    async def test_it_holds_for_each_node_anew(self, still: House) -> None:
        """B5: half an answer of one says nothing of the next."""
        await still.node("bad", breaks_after(whole()[:-1]))
        hangs = Held()
        await still.node("worse", hangs)
        client = await post(still)
        await hangs.asked.wait()
        still.look(LATER)
        assert (await client.answer())[0] == 504
        assert still.unreachable == ["bad", "worse"]
        await still.settled()

    async def test_an_answer_that_has_begun_may_take_its_time(self, still: House) -> None:
        """B2: it is only about the first byte."""
        script = Held(chunk(b"data: 2\n\n") + LAST, first=SSE_HEAD + FIRST_CHUNK)
        await still.node("one", script)
        client = await post(still, STREAM)
        await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        still.look(LATER)
        script.go.set()
        assert await client.chunks() == [b"data: 2\n\n"]
        assert still.failures == []
        await still.settled()


class TestTrials:
    """An exclusion that is due is tried with a request that can still go elsewhere (C7)."""

    async def test_one_that_succeeds_restores_the_model(self, house: House) -> None:
        """C7."""
        await self.excluded(house, answers(whole()))
        assert (await (await post(house)).answer())[1]["x-llm-router-node"] == "bad"
        assert house.restored == ["bad"]
        await house.settled()

    @pytest.mark.parametrize("script", [says(BROKEN[0]), breaks_after()], ids=["500", "closed"])
    async def test_one_that_fails_is_told_as_a_trial(self, house: House, script: Script) -> None:
        """B5, C7: and the client has its answer from another node."""
        await self.excluded(house, script)
        assert (await (await post(house)).answer())[1]["x-llm-router-node"] == "good"
        assert (house.trials, house.restored) == (["bad"], [])
        await house.settled()

    @pytest.mark.parametrize("script", [says(CALLERS_FAULT[0]), *BUSY.values()], ids=["400", *BUSY])
    async def test_one_that_shows_nothing_leaves_all_as_it_was(self, house: House, script: Script) -> None:
        """C7: the next request tries again."""
        await self.excluded(house, script)
        await (await post(house)).answer()
        assert (house.failures, house.restored) == ([], [])
        assert house.registry.nodes["bad"].excluded["m"].is_due(house.plane.now())
        await house.settled()

    async def test_one_whose_client_leaves_leaves_all_as_it_was(self, house: House) -> None:
        """B6, C7: nobody knows how it would have ended."""
        script = Held(whole())
        await self.excluded(house, script)
        client = await post(house)
        await script.asked.wait()
        client.abort()
        assert [r.outcome for r in await house.settled()] == ["cancelled"]
        assert (house.failures, house.restored) == ([], [])
        assert house.registry.nodes["bad"].excluded["m"].is_due(house.plane.now())

    async def excluded(self, house: House, script: Script) -> None:
        """Node `bad`, on which the model failed long ago, and a good one."""
        await house.node("bad", script)
        await house.node("good", answers(whole()))
        house.registry.exclude("bad", "m", "it broke", house.plane.now() - 100)


class TestOffline:
    """The registry says that a node is gone while its requests hang (E1)."""

    @pytest.mark.parametrize("first", [b"", SSE_HEAD, whole()[:-1]], ids=["nothing", "a head", "half an answer"])
    async def test_what_has_not_begun_goes_elsewhere(self, still: House, first: bytes) -> None:
        """B5: after some patience, since it may be about to end in order."""
        hangs = Held(first=first)
        await still.node("bad", hangs)
        client = await post(still)
        await hangs.asked.wait()
        await still.node("good", answers(whole()))
        goes_offline(still, "bad")
        still.look()
        assert still.registry.nodes["bad"].in_flight == 1
        await until(lambda: is_given_up(still, "bad"))
        assert (await client.answer())[1]["x-llm-router-node"] == "good"
        assert (still.failures, still.unreachable) == ([("bad", "went offline")], ["bad"])
        await still.settled()

    async def test_what_has_begun_is_broken_in_its_protocol(self, still: House) -> None:
        """B5: never silently."""
        await still.node("one", Held(first=SSE_HEAD + FIRST_CHUNK))
        client = await post(still, STREAM)
        await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        goes_offline(still, "one")
        still.look()
        still.look(OFFLINE_PATIENCE + 1)
        rest = await client.rest()
        told = msgspec.json.decode(rest.split(b"data: ")[1].split(b"\n")[0])
        assert told["error"]["message"] == "went offline"
        assert not rest.endswith(LAST)
        assert [r.outcome for r in await still.settled()] == ["broken"]

    async def test_what_flows_is_left_alone(self, still: House) -> None:
        """B2: a node that said goodbye finishes what it has begun; only silence ends it."""
        flows = Flow()
        await still.node("one", flows)
        client = await post(still, STREAM)
        await client.head()
        await client.chunk()
        goes_offline(still, "one")
        for i in range(5):
            still.look(i * (OFFLINE_PATIENCE - 1))
            await flows.send()
            assert await client.chunk() == b"data: 1\n\n"
        await flows.end()
        assert await client.chunks() == []
        assert still.failures == []
        assert [r.outcome for r in await still.settled()] == ["done"]

    async def test_a_node_that_came_back_has_its_patience_anew(self, still: House) -> None:
        """E3: an absence of long ago is not added to the next one."""
        script = Held(whole())
        await still.node("one", script)
        client = await post(still)
        await script.asked.wait()
        goes_offline(still, "one")
        still.look()
        still.registry.signal("one", Signal.REGISTERED, still.plane.now())
        still.look(OFFLINE_PATIENCE)
        goes_offline(still, "one")
        still.look(OFFLINE_PATIENCE + 1)
        script.go.set()
        assert (await client.answer())[0] == 200
        assert still.failures == []
        await still.settled()


class Flow:
    """A script of a stream that goes on as the test says."""

    def __init__(self) -> None:
        self._conversation: Conversation

    async def __call__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        await conversation.request()
        await conversation.send(SSE_HEAD + FIRST_CHUNK)
        await conversation.closed()

    async def send(self) -> None:
        await self._conversation.send(FIRST_CHUNK)

    async def end(self) -> None:
        await self._conversation.send(LAST)
