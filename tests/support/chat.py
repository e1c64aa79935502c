"""The chat template and the control tokens of the tiny model."""

from __future__ import annotations

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
