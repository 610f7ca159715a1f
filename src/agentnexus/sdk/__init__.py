"""For agent authors: a typed function with a decorator is a whole agent, runnable and testable without the platform."""

from agentnexus.sdk.agent import Agent, agent
from agentnexus.sdk.context import Cancelled, Context, Recorder, Refusal
from agentnexus.sdk.forms import File, one_of, ui
from agentnexus.sdk.manifest import Manifest, ManifestError

__all__ = [
    "Agent",
    "Cancelled",
    "Context",
    "File",
    "Manifest",
    "ManifestError",
    "Recorder",
    "Refusal",
    "agent",
    "one_of",
    "ui",
]
