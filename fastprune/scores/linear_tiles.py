"""Loss, scores and gradients of a linear head without its matrix of logits.

N rows of hidden states (N, H) and a head (V, H) give N V logits. A library's matrix product makes one tile of them at a
time, and the sums of the rows fold it (`fastprune.scores.tile_sums`). There are two orders to go through the tiles.

**By classes.** A tile holds some classes of many rows. Its product is as fast as the whole one, because the head is
read once. The gradient needs the sums of whole rows, so the tiles are made again for it. That is four products in all:
logits, logits again, and one for each gradient. The gradient of the head is one product a tile, so it is rounded once.

**By rows.** A tile holds all classes of some rows. The sums are complete, so the tile becomes its gradient at once.
That is three products in all. The gradient of the head is added up over the tiles, in float32.

Which is faster depends on the product. On a CPU with fewer than 256 rows one in bfloat16 takes up to 1.7 times as long,
because the library arranges the whole head anew for each. There the order is by classes. In float32 three products win
with any number of rows. On a GPU the sum over tiles is one product with a float32 result.

A tile by rows costs a pass over the head's gradient, so more rows are faster: with 32,000 classes in float32 102 rows
take 1.26 times as long as 256. So a tile may have 32 MB, also where that is more than 1/20 of the logits.

Memory: a tile, the sums and the gradients. A tile is at most 1/20 of the logits, 32 MB or 64 rows, whichever is most.
A gradient in 16 bits is added up in float32 where there is more than one term.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastprune.scores.linear_head import LinearHead, Room, logits_into
from fastprune.scores.tile_sums import Closed, Wanted, add_tile, close_sums, empty_sums, gradient_in_place

# Rows and classes of a tile of sums. On a GPU a tile of 16 bits is 32 MB, which its L2 cache holds.
_ROWS = {"cpu": 2048, "cuda": 8192}
_CLASSES = {"cpu": 1024, "cuda": 2048}
# A tile is at most this part of all logits,
_SHARE = 20
# or has this many bytes,
_TILE_BYTES = 2**25
# but not more rows than this, because products of more rows are no faster.
_MOST_ROWS = 512
# Numbers of a tile of gradients of all rows, which the cache should hold.
_GRADIENTS = 2**21
# The fewest rows for which a product in 16 bits is as fast on a CPU as one of many rows.
_ENOUGH_ROWS = 256


class Needed(NamedTuple):
    """Which gradients are needed."""

    hidden: bool = False
    weight: bool = False
    bias: bool = False


class Gradients(NamedTuple):
    """The gradients with respect to the three parts of a head's logits, or None where not needed."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


def goes_by_rows(hidden: Tensor, classes: int) -> bool:
    """Whether the gradients of a reduced loss are faster by rows, for all rows (N, H)."""
    if not hidden.is_cpu or hidden.dtype == torch.float32:
        return True
    return _rows_of_all_classes(len(hidden), classes, hidden.dtype) >= _ENOUGH_ROWS


def folded(hidden: Tensor, head: LinearHead, labels: Tensor, wanted: Wanted) -> Closed:
    """Losses and scores of rows, by classes.

    Args:
        hidden: IN (n, H) contiguous.
        head: IN, of the same dtype.
        labels: IN (n,) int64 contiguous. Every row counts.
        wanted: What to give.
    """
    n, classes = len(hidden), head.classes
    rows, columns = _by_classes(n, classes, hidden.device)
    room = Room(rows * columns, hidden)
    sums = empty_sums(n, hidden.device)
    for r in range(0, n, rows):
        h, y, to = hidden[r : r + rows], labels[r : r + rows], sums[r : r + rows]
        for c in range(0, classes, columns):
            tile = room.tile(len(h), min(columns, classes - c))
            add_tile(to, logits_into(tile, h, head, c), c, y, wanted, begins=c == 0)
    return close_sums(sums, classes, wanted)


def gradients_by_classes(
    hidden: Tensor,
    head: LinearHead,
    labels: Tensor,
    state: Tensor,
    row_grad: Tensor,
    label_smoothing: float,
    needed: Needed,
    *,
    wide: bool = False,
) -> Gradients:
    """The gradients of sum_i row_grad_i loss_i, from logits that are made again.

    Args:
        hidden: As in `folded`.
        head: As in `folded`.
        labels: As in `folded`.
        state: IN (3, n) fp32, what `folded` gave.
        row_grad: IN (n,) fp32 contiguous.
        label_smoothing: As in `folded`.
        needed: Which gradients to give.
        wide: Whether they stay in float32.
    """
    n, classes = len(hidden), head.classes
    columns = _columns_of_all_rows(n, classes)
    room = Room(n * columns, hidden)
    found = _GradientSums(hidden, head, needed, whole_rows=False, wide=wide)
    for c in range(0, classes, columns):
        tile = logits_into(room.tile(n, min(columns, classes - c)), hidden, head, c)
        gradient_in_place(tile, c, labels, classes, state, row_grad, label_smoothing, head.logit_scale, head.softcap)
        found.add(tile, c, slice(0, n))
    return found.gradients()


def loss_and_gradients_by_rows(
    hidden: Tensor,
    head: LinearHead,
    labels: Tensor,
    row_grad: Tensor,
    wanted: Wanted,
    needed: Needed,
    *,
    wide: bool = False,
) -> tuple[Closed, Gradients]:
    """Losses, scores and the gradients of sum_i row_grad_i loss_i, from logits that are made once.

    Args:
        hidden: As in `folded`.
        head: As in `folded`.
        labels: As in `folded`.
        row_grad: IN (n,) fp32 contiguous.
        wanted: As in `folded`.
        needed: Which gradients to give.
        wide: Whether they stay in float32.
    """
    n, classes = len(hidden), head.classes
    rows = _rows_of_all_classes(n, classes, hidden.dtype)
    room = Room(rows * classes, hidden)
    found = _GradientSums(hidden, head, needed, whole_rows=True, wide=wide)
    pieces = []
    for r in range(0, n, rows):
        part = slice(r, min(r + rows, n))
        h, y = hidden[part], labels[part]
        tile = logits_into(room.tile(len(h), classes), h, head, 0)
        sums = empty_sums(len(h), hidden.device)
        add_tile(sums, tile, 0, y, wanted, begins=True)
        closed = close_sums(sums, classes, wanted)
        assert closed.state is not None
        gradient_in_place(
            tile, 0, y, classes, closed.state, row_grad[part], wanted.label_smoothing, head.logit_scale, head.softcap
        )
        found.add(tile, 0, part)
        pieces.append(closed)
    return _joined(pieces, wanted), found.gradients()


class _GradientSums:
    """The gradients so far, as tiles of logits' gradients come.

    With ``whole_rows`` each tile holds all classes of some rows, otherwise some classes of all rows. So one gradient is
    complete with its tile, and the other is added up.
    """

    def __init__(self, hidden: Tensor, head: LinearHead, needed: Needed, *, whole_rows: bool, wide: bool) -> None:
        self._inputs, self._head, self._whole_rows = hidden, head, whole_rows
        self._dtype = torch.float32 if wide else hidden.dtype
        added_up = torch.float32
        of_hidden, of_weight = (self._dtype, added_up) if whole_rows else (added_up, self._dtype)
        self.hidden = torch.empty_like(hidden, dtype=of_hidden) if needed.hidden else None
        self.weight = torch.empty_like(head.weight, dtype=of_weight) if needed.weight else None
        self.bias = torch.zeros_like(head.bias, dtype=added_up) if needed.bias and head.bias is not None else None
        self._begun = False

    def add(self, tile: Tensor, first_class: int, rows: slice) -> None:
        """Add what a tile of gradients gives."""
        last = first_class + tile.shape[1]
        if self.hidden is not None:
            weight, to = self._head.weight[first_class:last], self.hidden[rows]
            _add_product(to, tile, weight, self._begun and not self._whole_rows)
        if self.weight is not None:
            inputs, to = self._inputs[rows], self.weight[first_class:last]
            _add_product(to, tile.t(), inputs, self._begun and self._whole_rows)
        if self.bias is not None:
            self.bias[first_class:last] += tile.sum(0, dtype=torch.float32)
        self._begun = True

    def gradients(self) -> Gradients:
        """The gradients, of the dtypes of what they belong to."""
        return Gradients(*(None if g is None else g.to(self._dtype) for g in (self.hidden, self.weight, self.bias)))


# Numbers of a product in 16 bits that is then added to float32.
_PRODUCT = 2**20
_has_wide_product = hasattr(torch.ops.aten.addmm, "dtype_out")


def _add_product(to: Tensor, a: Tensor, b: Tensor, begun: bool) -> None:
    """to += a @ b, or to = a @ b if nothing has begun. ``to`` has the dtype of both or float32."""
    if a.dtype == to.dtype:
        torch.addmm(to, a, b, out=to) if begun else torch.mm(a, b, out=to)
        return
    if not a.is_cpu and _has_wide_product:
        if begun:
            torch.addmm(to, a, b, out_dtype=to.dtype, out=to)
        else:
            torch.mm(a, b, out_dtype=to.dtype, out=to)
        return
    step = max(_PRODUCT // max(b.shape[1], 1), 1)
    for i in range(0, len(a), step):
        product = torch.mm(a[i : i + step], b)
        to[i : i + step].add_(product) if begun else to[i : i + step].copy_(product)


def _joined(pieces: list[Closed], wanted: Wanted) -> Closed:
    losses = torch.cat([piece.losses for piece in pieces if piece.losses is not None])
    scores = {name: torch.cat([piece.scores[name] for piece in pieces]) for name in wanted.metrics}
    return Closed(losses, None, scores)


# --- shapes of tiles -------------------------------------------------------------------------------------------------


def _by_classes(n: int, classes: int, device: torch.device) -> tuple[int, int]:
    """(rows, columns) of the tiles of sums. Few rows get more columns."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    rows = max(min(n, _ROWS[kind]), 1)
    least = _CLASSES[kind]
    columns = least * max(_ROWS[kind] // rows, 1)
    return rows, min(columns, max(classes // _SHARE // least * least, least), _half(classes))


def _columns_of_all_rows(n: int, classes: int) -> int:
    """Columns of the tiles of gradients of all rows."""
    return min(max(classes // _SHARE, 128), max(_GRADIENTS // max(n, 1), 512), _half(classes))


def _rows_of_all_classes(n: int, classes: int, dtype: torch.dtype) -> int:
    """Rows of the tiles of gradients of all classes."""
    fitting = min(_TILE_BYTES // (classes * dtype.itemsize), _MOST_ROWS)
    return min(max(n // _SHARE, fitting, 64), _half(n))


def _half(size: int) -> int:
    """At most half, so that no tile is ever the whole."""
    return max((size + 1) // 2, 1)
