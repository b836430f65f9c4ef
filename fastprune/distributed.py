"""Top-k over the scores of many processes. This is the public name of `fastprune.selection.distributed`."""

from fastprune.selection.distributed import select_topk

__all__ = ["select_topk"]
