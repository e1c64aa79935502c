"""A Ray cluster as a backend: a process on its nodes for each share of them, as each GPU of one machine has one."""
