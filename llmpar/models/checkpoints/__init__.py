"""Directories of safetensors as weights to read: plain ones, and those that the hub's quantising tools write."""
