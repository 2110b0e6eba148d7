"""What is made of a profile; taking one needs leave to look into another process."""

import io

from bench.data_plane.profiling import Profile, own_samples, table
from rich.console import Console

RAW = """\
run (asyncio/runners.py);Client.data_received (llm_router/gateway/server.py);feed (llm_router/wire/http1.py) 30
run (asyncio/runners.py);feed (llm_router/wire/http1.py) 20
run (asyncio/runners.py) 10
Thread.run (threading.py);_worker (concurrent/futures/thread.py) 500
Thread.run (threading.py);<lambda>.<locals>.<genexpr> (llm_router/router/ledger.py) 40
"""


def test_a_function_has_the_samples_in_which_it_ran_itself() -> None:
    """Whoever called it; threads that wait for work are not counted, and the most comes first."""
    assert own_samples(RAW) == [
        ("feed (llm_router/wire/http1.py)", 50),
        ("<lambda>.<locals>.<genexpr> (llm_router/router/ledger.py)", 40),
        ("run (asyncio/runners.py)", 10),
    ]


def test_the_table_says_what_each_function_costs_a_request() -> None:
    """Its share of the samples is its share of the processor time; what is not shown is summed up."""
    rare = [(f"f{n} (x.py)", 1) for n in range(20)]
    common = [(f"g{n} (y.py)", 2) for n in range(30)]
    out = io.StringIO()
    Console(file=out, width=120).print(table(Profile("unary", [("a (z.py)", 120), *common, *rare], each=100.0)))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["60.0", "60.0", "a", "(z.py)"] in lines
    assert ["1.0", "1.0", "g0", "(y.py)"] in lines
    assert ["11.0", "11.0", "all", "others"] in lines
