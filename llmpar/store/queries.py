"""What the store asks SQLite for, where it is longer than a line."""

from __future__ import annotations

BY_PERSON = -1
"""The number that stands for an attempt where a person answered. Earlier versions take such an answer like others."""

FIND = (
    "SELECT key, attempt, answer, finish_reason, num_prompt_tokens, num_output_tokens, seconds, checksum, used "
    "FROM answers WHERE key IN"
)
"""The answers under some keys, of which as many question marks follow in brackets."""

KNOWN = "SELECT DISTINCT key FROM answers WHERE key IN"
"""Those of some keys that have an answer; the same follows."""

STARTING = """
SELECT description, text FROM answers LEFT JOIN jobs ON jobs.id = job WHERE key >= ? AND key < ? LIMIT 1
"""
"""What an answer whose key begins in some way was asked, and about what."""

ORIGINS = "SELECT DISTINCT key, text, digest FROM answers JOIN jobs ON jobs.id = job WHERE key IN"
"""What the answers under some keys are about, and their jobs; the same follows."""

LENGTHS = """
SELECT count(*), total(num_prompt_tokens), total(num_output_tokens),
  total(1.0 * num_prompt_tokens * num_prompt_tokens), total(1.0 * num_prompt_tokens * num_output_tokens),
  total(1.0 * num_output_tokens * num_output_tokens)
FROM answers JOIN jobs ON jobs.id = job
WHERE digest = ? AND finish_reason IN ('stop', 'length', 'loop') AND NOT EXISTS (
  SELECT 1 FROM answers AS later WHERE later.key = answers.key AND later.attempt = answers.attempt + 1
)
"""
"""How long the answers of a job are, the last one of each question: a run's tokens count no other; see
`lengths.Lengths`."""

KEEP = """
INSERT INTO answers (job, key, attempt, text, answer, finish_reason, num_prompt_tokens, num_output_tokens, seconds,
  used, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key, attempt) DO UPDATE SET job = excluded.job, text = excluded.text, answer = excluded.answer,
  finish_reason = excluded.finish_reason, num_prompt_tokens = excluded.num_prompt_tokens,
  num_output_tokens = excluded.num_output_tokens, seconds = excluded.seconds, used = excluded.used,
  checksum = excluded.checksum
WHERE answers.finish_reason = 'length' AND excluded.finish_reason <> 'length'
"""
"""Keep an answer. Where another process was faster, its answer stands; but one that came to its end takes the place of
one that had less room."""

ALL = (
    "SELECT digest, description, created, key, attempt, text, answer, finish_reason, num_prompt_tokens, "
    "num_output_tokens, seconds, used, checksum FROM answers JOIN jobs ON jobs.id = job"
)
"""Every answer as it is kept, with its job."""

TAKE = """
INSERT OR IGNORE INTO answers (job, key, attempt, text, answer, finish_reason, num_prompt_tokens, num_output_tokens,
  seconds, used, checksum) VALUES ((SELECT id FROM jobs WHERE digest = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
"""Keep an answer of another store, by its job's digest; one that is there stays."""

UNUSED = "DELETE FROM answers WHERE used <= ? AND attempt >= 0"
"""Delete what was computed, and not used since a day."""

COMPUTED = "SELECT count(*) FROM answers WHERE attempt >= 0"
"""How many answers no person gave."""

OLDEST = """
DELETE FROM answers WHERE id IN (SELECT id FROM answers WHERE attempt >= 0 ORDER BY used, id LIMIT ?)
"""
"""Delete so many of them that were not used for longest."""
