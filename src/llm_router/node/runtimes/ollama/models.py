"""The model that an Ollama without any gets first (requirement G6), and how one is fetched.

Every name in the table is one of Ollama's library (ollama.com/library), as are the sizes beside it.
"""

import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec

from llm_router.contract import UNREADABLE, Address, Backend, Progress
from llm_router.errors import UpstreamFailed
from llm_router.gateway.probe import why
from llm_router.models.meter import Meter

NO_MODEL = "none"  # what OLLAMA_DEFAULT_MODEL says where none is wanted
CONNECT_WITHIN = 5.0  # seconds
SILENT_FOR = 600.0  # seconds; between two records it may read 20 GB from a slow disk, to compute their sum

GB = 1_000_000_000


class Choice(msgspec.Struct, frozen=True):
    """A model and the bytes of memory that it wants: weights, 4,096 tokens of context, buffers."""

    name: str
    memory: int


# From the best to the smallest. All of them can be given tools; those for processors do not think before they answer,
# which would take a processor minutes.
CHOICES = (
    Choice("qwen3:30b", 22 * GB),  # 19 GB
    Choice("qwen3:14b", 12 * GB),  # 9.3 GB
    Choice("qwen3:8b", 7 * GB),  # 5.2 GB: fits into a graphics card of 8 GiB
    Choice("llama3.2:3b", 4 * GB),  # 2.0 GB
    Choice("llama3.2:1b", 2 * GB),  # 1.3 GB
    Choice("qwen2.5:0.5b", 1 * GB),  # 400 MB
)
LARGEST_WITHOUT_GPU = 4 * GB  # memory; what is larger answers more slowly than one reads, however much memory there is


def choose(wanted: str, backend: Backend, budget: int) -> str:
    """The name of the model to fetch, "" for none.

    Args:
        wanted: the setting: a name, "none", or "" for one that fits.
        backend: what this machine computes with.
        budget: bytes that models may take there.
    """
    if wanted:
        return "" if wanted == NO_MODEL else wanted
    room = min(budget, LARGEST_WITHOUT_GPU) if backend == "cpu" else budget
    return next((choice.name for choice in CHOICES if choice.memory <= room), "")


class Record(msgspec.Struct):
    """One line of what `/api/pull` answers (Ollama, `docs/api.md`), or its error. Bytes; `digest` names a file."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


class Fetch:
    """One model on its way, and how far it is: the sum over its files, of which one appears after the other."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._step = "looking for it"
        self._error = ""
        self._complete = False
        self._files: dict[str, Record] = {}
        self._meter = Meter()

    async def run(self, session: aiohttp.ClientSession, address: Address) -> None:
        """Have the Ollama at `address` fetch it. Ollama itself goes on with one that broke off.

        Raises:
            UpstreamFailed: it did not get it; the message says why.
        """
        where = f"{address.url} was to fetch {self._model}"
        try:
            async for record in _records(session, address, self._model):
                self.note(record)
        except TimeoutError as error:
            raise UpstreamFailed(f"{where}, and fell silent") from error
        except aiohttp.ClientError as error:
            raise UpstreamFailed(f"{where}: {why(error)}") from error
        except UNREADABLE as error:
            raise UpstreamFailed(f"{where}, and does not answer as Ollama does: {error}") from error
        if not self._complete:
            raise UpstreamFailed(f"{self._model} was not fetched: {self._error or 'the answer broke off'}")

    def progress(self) -> Progress:
        """As the heartbeat has it."""
        meter = self._meter
        rate = round(meter.rate(time.monotonic()), 1)
        return Progress("model", self._model, self._step, meter.done, meter.total, rate)

    def note(self, record: Record) -> None:
        """This came next. Of a file Ollama says "pulling abc…", and "downloading" in its documentation."""
        self._error = self._error or record.error
        self._complete = record.status == "success"
        self._step = "downloading" if record.digest else record.status
        if record.digest:
            self._files[record.digest] = record
            done = sum(file.completed for file in self._files.values())
            self._meter.note(done, sum(file.total for file in self._files.values()), time.monotonic())


async def _records(session: aiohttp.ClientSession, address: Address, model: str) -> AsyncIterator[Record]:
    """An error may come with status 200, or with another one: it looks the same."""
    body = msgspec.json.encode({"model": model})
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN, sock_read=SILENT_FOR)
    async with session.post(f"{address.url}/api/pull", data=body, timeout=timeout) as response:
        async for line in response.content:
            if line.strip():
                yield msgspec.json.decode(line, type=Record)
