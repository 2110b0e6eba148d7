"""The node's own Ollama as a runtime: found or installed, run, and given models."""
