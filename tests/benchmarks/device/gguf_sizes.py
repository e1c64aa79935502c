"""What the metadata of each GGUF file say of a model's sizes. Tests that make tiny files write it, too."""

from __future__ import annotations

from typing import Any


def describe_sizes(writer: Any, config: Any) -> None:
    """Write the sizes of a model.

    Args:
        writer: a gguf.GGUFWriter.
        config: the model's, with the names that transformers' configurations have.
    """
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
