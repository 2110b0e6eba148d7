"""What a process uses."""

import psutil

from bench.processes import NotReadyError


class Meter:
    """Reads what a process and its children use, who are a router's workers.

    Raises:
        NotReadyError: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._process = psutil.Process(pid)
        except psutil.NoSuchProcess:
            raise NotReadyError(f"there is no process {pid}") from None

    def cpu(self) -> float:
        """Seconds of processor time, the kernel's for it included."""
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._family()))

    def memory(self) -> int:
        """Bytes that are resident."""
        return sum(process.memory_info().rss for process in self._family())

    def _family(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]
