"""The chat template and the control tokens of the tiny model, and a prompt with a system prompt in it."""

from __future__ import annotations

from llmpar.models.tokenizer import ChatTokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def told(tokenizer: ChatTokenizer, text: str, system: str = "Be brief.") -> list[int]:
    """Return the ids of a prompt: a message of the user's, after a system prompt."""
    return tokenizer.encode_messages([("system", system), ("user", text)])
