"""The engine's own arithmetic for CPUs: vector code that Numba compiles, and decoders that run on it."""
