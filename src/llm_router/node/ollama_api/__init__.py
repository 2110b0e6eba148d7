"""Ollama's model endpoints on a node: its Ollama does what it is asked, and the store of llama.cpp what it can."""

from llm_router.node.ollama_api.pulls import Pulls
from llm_router.node.ollama_api.routes import node_ollama_routes

__all__ = ["Pulls", "node_ollama_routes"]
