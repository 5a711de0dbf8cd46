"""langchain's standard tests of a chat model, on langchain's own OpenAI client. The tests are all theirs."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from tests.conformance.clients.target import BASE_URL, MODEL, OTHER_MODEL


class TestChatOpenAI(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Greedy, penalised, bounded, one call at a time: a small model repeats itself instead of coming to an end."""
        return {
            "model": MODEL,
            "base_url": BASE_URL,
            "api_key": "unused",
            "temperature": 0,
            "frequency_penalty": 1.5,
            "max_tokens": 192,
            "max_retries": 0,
            "stream_usage": True,
            "model_kwargs": {"parallel_tool_calls": False},
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return OTHER_MODEL
