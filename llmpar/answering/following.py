"""Reply → step: gathers all that decides what follows a reply. `attempts` decides, and knows no text."""

from __future__ import annotations

from llmpar.answering.attempts import Policy, Step, next_step
from llmpar.answering.backend import Reply
from llmpar.answering.pending import Running, can_extend
from llmpar.answering.splitting import halves_of, parts_after
from llmpar.store.answer import StoredAnswer
from llmpar.tasks.question import Sampling


def step_after(
    running: Running,
    reply: Reply,
    answer: StoredAnswer,
    sampling: Sampling,
    policy: Policy,
    *,
    is_faulty: bool,
    room: int,
    ends: bool,
) -> Step:
    """Return what follows a reply.

    Args:
        running: what was asked.
        reply: what came of that.
        answer: all that is written by now, which `reply` may be the end of.
        sampling: what the user said about answers.
        policy: which of them will do.
        is_faulty: the answer will not do.
        room: how many more tokens the model's context can hold.
        ends: nothing may be asked any more.
    """
    if reply.finish_reason == "stop" and not is_faulty and not reply.overflows:
        return Step.FINISH  # as nearly always
    question = running.pending.question
    is_full = reply.finish_reason == "length" and room <= 0
    return next_step(
        running.attempt,
        reply.finish_reason,
        is_faulty=is_faulty,
        room=room,
        can_extend=can_extend(reply, sampling),
        can_split=(is_full or reply.overflows) and halves_of(question, policy.overflow) is not None,
        can_part=is_faulty and parts_after(question, answer) is not None,
        deadly=reply.deadly,
        overflows=reply.overflows,
        is_ending=ends,
    )
