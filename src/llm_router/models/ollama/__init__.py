"""Ollama's model endpoints, as router and node both serve them and both ask others for them."""
