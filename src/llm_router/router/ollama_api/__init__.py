"""Ollama's model endpoints on the router, so that the `ollama` command deals with a fleet as with one machine."""

from llm_router.router.ollama_api.routes import router_ollama_routes

__all__ = ["router_ollama_routes"]
