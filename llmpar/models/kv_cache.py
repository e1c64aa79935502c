"""What keys and values may be kept in, by device."""

from __future__ import annotations

from llmpar.engine.precision_names import KVCacheName
from llmpar.errors import ModelUnavailable, setting
from llmpar.models.devices import has_fp8


def check_kv_cache(kv_cache: KVCacheName, devices: tuple[str, ...]) -> None:
    """Raise ModelUnavailable if some devices cannot keep keys and values so.

    Args:
        kv_cache: what is asked for.
        devices: as torch calls them; all are of one kind.

    Raises:
        ModelUnavailable: it says which device, and what to do.
    """
    if kv_cache == "auto":
        return
    if not devices[0].startswith("cuda"):
        raise ModelUnavailable(f"{setting('kv_cache', kv_cache)}: not on {devices[0]}, only on CUDA GPUs; leave it out")
    if not has_fp8(devices):
        raise ModelUnavailable(
            f"{setting('kv_cache', kv_cache)}: {devices[0]} has no such numbers, which begin with compute capability "
            "8.9; leave it out"
        )
