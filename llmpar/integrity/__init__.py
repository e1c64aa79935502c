"""Whether what is kept is still what was written: checksums, and what an answer rests on."""
