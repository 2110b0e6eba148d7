"""What the wheel's llama.cpp can compute on: `python -m llm_router.node.runtimes.llamacpp.devices` prints the kinds.

It is a process of its own, since it loads the drivers of graphics processors, and they stay in memory.
"""

import sys


def main() -> None:
    """One line for each device: its kind, as ggml calls it (`GGML_BACKEND_DEVICE_TYPE_GPU`)."""
    import xllamacpp  # noqa: PLC0415 - it prints when imported, and whoever imports this module needs nothing of it

    sys.stdout.writelines(f"{device['type'].name}\n" for device in xllamacpp.get_device_info())


if __name__ == "__main__":
    main()
