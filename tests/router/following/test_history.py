"""What other replicas have answered, for those who watch (requirement F2)."""

from sqlalchemy import text
from tests.router.recording import record

from llm_router.router.following.history import MOST, HistoryElsewhere
from llm_router.router.store.postgres import PostgresDatabase


class Two:
    """One database, as two replicas see it; `here` is told of what `there` has answered."""

    def __init__(self, url: str) -> None:
        self.here = PostgresDatabase(url, "here")
        self.there = PostgresDatabase(url, "there")
        self.elsewhere = HistoryElsewhere(self.here, "here")

    async def fresh(self) -> list[str]:
        return [kept.id for kept in await self.elsewhere.fresh()]

    async def close(self) -> None:
        await self.here.close()
        await self.there.close()


async def test_requests_of_others_are_told_once_and_ours_never(postgres_place: str) -> None:
    """The oldest first; what was there before anybody watched is not news."""
    two = Two(postgres_place)
    await two.there.append([record(id="old")])
    assert await two.fresh() == []
    await two.here.append([record(id="ours")])
    await two.there.append([record(id="first"), record(id="second")])
    assert await two.fresh() == ["first", "second"]
    assert await two.fresh() == []
    await two.there.append([record(id="third")])
    assert await two.fresh() == ["third"]
    two.elsewhere.forget()
    await two.there.append([record(id="unseen")])
    assert await two.fresh() == []
    await two.there.append([record(id="fourth")])
    assert await two.fresh() == ["fourth"]
    await two.close()


async def test_the_first_requests_of_all_are_told(postgres_place: str) -> None:
    """An empty history is one, too."""
    two = Two(postgres_place)
    assert await two.fresh() == []
    await two.there.append([record(id="first")])
    assert await two.fresh() == ["first"]
    await two.close()


async def test_what_appears_late_is_told_as_well(postgres_place: str) -> None:
    """Numbers are given out before rows can be seen: of two batches, the one with the lower ones may come last."""
    two = Two(postgres_place)
    assert await two.fresh() == []
    await two.there.append([record(id="gap"), record(id="seen")])
    await two.here.run(lambda connection: connection.execute(text("DELETE FROM requests WHERE id = 'gap'")))
    assert await two.fresh() == ["seen"]
    await two.there.append([record(id="late")])
    await two.here.run(lambda connection: connection.execute(text("UPDATE requests SET seq = 1 WHERE id = 'late'")))
    assert await two.fresh() == ["late"]
    await two.close()


async def test_a_flood_is_not_told_whole(postgres_place: str) -> None:
    """The newest of it: nobody reads so many lines a second."""
    two = Two(postgres_place)
    await two.fresh()
    await two.there.append([record(id=f"r{number}") for number in range(MOST + 10)])
    assert await two.fresh() == [f"r{number}" for number in range(10, MOST + 10)]
    await two.close()


async def test_without_its_table_nothing_is_told(postgres_place: str) -> None:
    """The ledger tells of that."""
    two = Two(postgres_place)
    await two.fresh()
    await two.here.run(lambda connection: connection.execute(text("ALTER TABLE requests RENAME TO elsewhere")))
    assert await two.fresh() == []
    await two.here.run(lambda connection: connection.execute(text("ALTER TABLE elsewhere RENAME TO requests")))
    await two.close()
