"""What models said, kept from run to run. Knows no engine, no task, no check."""
