"""Facts about this machine, for the registration and the heartbeat (requirements A3, C4, D1).

    hardware.py   all of it together, as the agent asks for it
    load.py       how busy the processors are
    memory.py     the memory that is there, and how much of it models may take
    gpus.py       which GPUs there are, by platform: nvidia.py, drm.py (AMD and Intel on Linux), apple.py, windows.py
    sampler.py    reads them in a thread of its own

Rule: what the agent asks for is at hand. Whatever may take time happens in the sampler's thread.
"""

from llm_router.node.hardware.hardware import Hardware, machine_name

__all__ = ["Hardware", "machine_name"]
