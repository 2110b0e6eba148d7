"""llama.cpp as a runtime: a process for each model in memory."""
