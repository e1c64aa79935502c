"""What a run tells: counts and the exit code, records for programs, progress for people."""
