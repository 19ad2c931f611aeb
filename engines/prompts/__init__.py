"""Prompt-learning methods: one file a method.

from engines.prompts import available_methods, create_method, load_prompt
"""

from typing import Any

from engines.prompts.registry import available_methods, create_method, method_class

__all__ = ["available_methods", "create_method", "load_prompt", "method_class"]


def __getattr__(name: str) -> Any:
    if name == "load_prompt":  # imports torch: only for those who ask
        from engines.prompts.artifact import load_prompt

        return load_prompt
    raise AttributeError(name)
