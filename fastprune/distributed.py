"""Top-k over scores that many processes hold: the public name of `fastprune.selection.distributed`."""

from fastprune.selection.distributed import select_topk

__all__ = ["select_topk"]
