"""The public face: ModelServer, Task and the `fastserve` command."""

from fastserve.chat_stream import ChatTurn
from fastserve.client import Client, Task
from fastserve.model_description import ModelDescription, load_model
from fastserve.server import ModelServer

__all__ = ["ModelServer", "load_model", "Task", "ModelDescription", "ChatTurn", "Client"]
