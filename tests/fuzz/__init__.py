"""A mutational fuzzer: what llmpar reads, damaged at random, against what it promises. See fuzz.py."""
