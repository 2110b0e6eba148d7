"""Every metric, read from what the router tells of a picture that has something of everything."""

from prometheus_client.parser import text_string_to_metric_families

from llm_router.contract import Gpu, Heartbeat
from llm_router.core.health import State
from llm_router.core.usage import RequestRecord
from llm_router.gateway.lag import BOUNDS
from llm_router.router.metrics import NodeFacts, Picture, write
from llm_router.router.traffic import Traffic
from tools.reference.markdown import code, codes, table


def every_metric() -> str:
    """Name, labels, kind, and the text that Prometheus shows."""
    rows = []
    for family in text_string_to_metric_families(write(everything())):
        if family.name.startswith("llm_router"):  # the process's own are for Linux alone
            names = {label for sample in family.samples for label in sample.labels} - {"le"}
            total = "_total" if family.type == "counter" else ""
            rows.append((code(family.name + total), codes(sorted(names), " "), family.type, family.documentation))
    return table(("metric", "labels", "kind", "what"), rows)


def everything() -> Picture:
    """A picture in which no metric is without samples."""
    traffic = Traffic({"m"})
    traffic([RequestRecord("r", 0, "c", "openai.chat", "m", "n", "n", 200, "done", True, 1, 0.1, 0.2, 1, 1, "", 0.1)])  # noqa: FBT003 - a record is a row
    node = NodeFacts("n", "n", "agent", "linux", "1", "cuda", State.ONLINE, 1, 1, 1, 1, 0, Heartbeat(gpus=[Gpu("g")]))
    lag = ((0,) * (len(BOUNDS) + 1), 0.0)
    return Picture(traffic, [node], {"m": (1, 1)}, {"m": 1}, 0, 0, True, lag, 0)  # noqa: FBT003
