"""The command line: options, wiring, and the one place where errors become exit codes. Nobody imports it."""
