"""The decoder on a GPU: weights in device memory, Triton kernels, and steps recorded as CUDA graphs."""
