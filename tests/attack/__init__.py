"""Attacks on whole runs: killed, interrupted, out of disk, two at once. The same command again must end as if
nothing had been."""
