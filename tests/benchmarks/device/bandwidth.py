"""How many tokens a second the memory of a device allows, from the shape of a model and a measured copy."""

from __future__ import annotations

from typing import Any

from device.workload import Workload

EXPLANATION = (
    "The bandwidth limit counts what decoding has to read if {rows} sequences are always alive: the weights and the "
    "common prefix's keys and values once a step, each sequence's own once a token; reading prompts is left out. "
    "Tokens over these bytes, times the {bandwidth:.2f} TB/s of a device-to-device copy (bytes read and written)."
)


def copy_bandwidth(num_bytes: int = 4 << 30, repeats: int = 20) -> float:
    """Return the bytes a second of a copy on the first GPU, read and written, the best of some."""
    import torch

    source = torch.empty(num_bytes, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        best = max(best, 2 * num_bytes / (start.elapsed_time(end) / 1e3))
    return best


def decode_bytes(config: Any, workload: Workload, rows: int, element_size: int = 2) -> float:
    """Return how many bytes must be read to decode a workload with `rows` sequences alive."""
    hidden, layers, kv_heads = config.hidden_size, config.num_hidden_layers, config.num_key_value_heads
    query, key = config.num_attention_heads * config.head_dim, kv_heads * config.head_dim
    # Of experts, some hundred rows choose all.
    num_experts = getattr(config, "num_experts", None)
    inner = num_experts * config.moe_intermediate_size if num_experts else config.intermediate_size
    per_layer = hidden * (query + 2 * key) + query * hidden + 3 * hidden * inner
    weights = (layers * per_layer + hidden * config.vocab_size) * element_size  # the head; of embeddings, rows only
    position = layers * 2 * key * element_size
    num_prefix = len(workload.prefix_ids)
    num_steps = workload.num_new_tokens / min(rows, len(workload.limits))
    own = sum(
        limit * (len(prompt) - num_prefix) + limit * (limit - 1) // 2
        for prompt, limit in zip(workload.prompts, workload.limits, strict=True)
    )
    return num_steps * (weights + position * num_prefix) + position * own


if __name__ == "__main__":
    import json

    import torch

    present = torch.cuda.is_available()
    properties = torch.cuda.get_device_properties(0) if present else None
    print(
        json.dumps(
            {
                "name": properties.name if properties else "",
                "count": torch.cuda.device_count() if present else 0,
                "memory": properties.total_memory if properties else 0,
                "bandwidth": copy_bandwidth() if present else 0.0,
                "torch": torch.__version__,
            }
        )
    )
