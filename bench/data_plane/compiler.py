"""The bench's own programs, which are in C so that they cost next to nothing beside what is measured."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from bench.data_plane.tools import path_of
from bench.processes import NotReadyError

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


async def compiled(source: Path, home: Path) -> Path:
    """The program made of `source`, in `home`.

    Raises:
        NotReadyError: there is no compiler, or it refuses.
    """
    program = home / source.stem
    command = [path_of("cc"), *FLAGS, "-o", str(program), str(source)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    if process.returncode:
        raise NotReadyError(f"{source} does not compile:\n{output.decode('utf-8', 'replace')}")
    return program
