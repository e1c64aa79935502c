"""The fields that we know and do nothing with: those that change no answer, and those that must not ask for anything.

The names are OpenAI's and vLLM's, of today and of the versions whose files are still around.
"""

from __future__ import annotations

Neutral = dict[str, tuple[object, ...]]

# What may stay in a request as it changes no answer: who asks, how it is accounted for, when it runs.
INFORMATIVE = frozenset(
    {
        "cache_salt",
        "guided_decoding_backend",
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "return_mm_kwargs",
        "return_token_offsets",
        "return_tokens_as_token_ids",
        "safety_identifier",
        "service_tier",
        "session_id",
        "spaces_between_special_tokens",
        "store",
        "stream_interval",
        "truncation_side",
        "user",
    }
)
# What we cannot follow, with the values that ask for nothing.
_NEUTRAL: Neutral = {
    "allowed_token_ids": (),
    "bad_words": ([],),
    "early_stopping": (False,),
    "echo": (False,),
    "ec_transfer_params": (),
    "frequency_penalty": (0,),
    "guided_grammar": (),
    "guided_regex": (),
    "guided_whitespace_pattern": (),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "kv_transfer_params": (),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logits_processors": ([],),
    "logprob_token_ids": (),
    "min_p": (0,),
    "min_tokens": (0,),
    "presence_penalty": (0,),
    "prompt_logprobs": (),
    "repetition_detection": (),
    "repetition_penalty": (1,),
    "return_token_ids": (False,),
    "routed_experts_prompt_start": (0,),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "stream": (False,),
    "stream_options": (),
    "structural_tag": (),
    "thinking_token_budget": (-1,),
    "top_k": (0, -1),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "watermarking": (False,),
}
NEUTRAL_IN_CHAT: Neutral = _NEUTRAL | {
    "add_generation_prompt": (True,),
    "add_special_tokens": (False,),
    "audio": (),
    "chat_template": (),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),  # how we render any template
    "continue_final_message": (False,),
    "documents": ([],),
    "function_call": ("none",),
    "functions": (),
    "include_reasoning": (True,),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "return_prompt_text": (False,),
    "tool_choice": ("none",),
    "tools": (),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# The same where templates are told that the model is to think.
NEUTRAL_IN_THOUGHT: Neutral = NEUTRAL_IN_CHAT | {
    "chat_template_kwargs": ({}, {"enable_thinking": True}),
    "reasoning_effort": (),
}
NEUTRAL_IN_COMPLETIONS: Neutral = _NEUTRAL | {
    "add_special_tokens": (True,),
    "prompt_embeds": (),
    "suffix": (),
}
# What an answer that is sent back as a message brings with it.
NEUTRAL_IN_MESSAGE: Neutral = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "name": (),
    "refusal": (),
    "tool_call_id": (),
    "tool_calls": ([],),
}
# An answer's thoughts are for the model that wrote them: templates leave them out of what came before.
INFORMATIVE_IN_MESSAGE = frozenset({"reasoning", "reasoning_content"})
NEUTRAL_IN_CONSTRAINT: Neutral = {
    "disable_additional_properties": (False,),
    "disable_any_whitespace": (False,),
    "grammar": (),
    "regex": (),
    "structural_tag": (),
    "whitespace_pattern": (),
}
INFORMATIVE_IN_CONSTRAINT = frozenset({"disable_fallback", "backend"})
