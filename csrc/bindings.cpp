// fastprune._core: the C++ core for Python.
//
// Arrays come as addresses, shapes and strides, so the extension needs neither torch's headers nor NumPy's. One build
// serves every version of both.
//
// Nothing is checked here beyond what is cheap. fastprune.scores.cpu, fastprune.selection.topk and
// fastprune.selection.draws are the only callers. They check what they pass and keep it alive.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <memory>

#include "platform/instruction_sets.h"
#include "scores/row_scores.h"
#include "scores/tile_sums.h"
#include "selection/draws.h"
#include "selection/select_topk.h"

namespace py = pybind11;
using namespace fastprune;

namespace {

using Address = std::uintptr_t;

template <class T>
T* pointer(Address address) { return reinterpret_cast<T*>(address); }

// One tuple instead of many arguments: for a small batch the conversion of arguments is most of the cost. It holds
//   (logits, dtype, batch, tokens, classes, logits_batch_stride, logits_token_stride, labels,
//    labels_batch_stride, labels_token_stride, shift, ignore_index, threads)
// and then anything that the caller wants to keep alive.
Rows rows_of(const py::tuple& t) {
  const auto dtype = t[1].cast<DType>();
  if (dtype > DType::kFloat64)
    throw py::type_error("logits must be of a floating-point type");
  const auto at = [&](std::size_t i) { return t[i].cast<std::int64_t>(); };
  return {pointer<const void>(t[0].cast<Address>()), dtype, at(2), at(3), at(4), at(5), at(6),
          pointer<const std::int64_t>(t[7].cast<Address>()), at(8), at(9), at(10), at(11),
          static_cast<int>(at(12))};
}

std::int64_t row_scores_binding(const py::tuple& rows, const std::array<Address, kMetrics>& out) {
  const Rows all = rows_of(rows);
  RowScores scores;
  for (int i = 0; i < kMetrics; ++i) scores.metric[i] = pointer<float>(out[i]);
  py::gil_scoped_release release;
  return row_scores(all, scores);
}

// What the backward pass needs. `state` holds M, 1 / Z and 1 - p_y of all rows (see LossRows), and then one float, the
// factor.
struct State {
  LossRows rows;
  float* factor;  // of a row's loss in the reduced loss
};

State state_of(const Rows& rows, Address state, Address weight, float smoothing) {
  if (rows.dtype == DType::kFloat64) throw py::type_error("the loss takes float16, bfloat16 or float32");
  float* at = pointer<float>(state);
  const std::int64_t n = rows.batch * rows.tokens;
  return {{nullptr, at, at + n, at + 2 * n, pointer<const float>(weight), smoothing}, at + 3 * n};
}

// reduction is 0 for none, 1 for the mean over the weights of the labels, and 2 for the sum. `loss` has one float for
// each row, or one in all.
std::int64_t cross_entropy_forward_binding(const py::tuple& rows, const std::array<Address, kMetrics>& out,
                                           Address loss, Address state, Address weight, float smoothing,
                                           int reduction) {
  const Rows all = rows_of(rows);
  State to = state_of(all, state, weight, smoothing);
  RowScores scores;
  for (int i = 0; i < kMetrics; ++i) scores.metric[i] = pointer<float>(out[i]);
  py::gil_scoped_release release;
  const std::int64_t n = all.batch * all.tokens;
  const std::unique_ptr<float[]> scratch(reduction == 0 ? nullptr : new float[static_cast<std::size_t>(n)]);
  to.rows.losses = scratch ? scratch.get() : pointer<float>(loss);
  *to.factor = 1.0f;
  const std::int64_t bad = cross_entropy_forward(all, scores, to.rows);
  if (bad < 0 && reduction != 0) {
    const double total = reduction == 1 ? label_weights(all, to.rows.weight) : 1.0;
    *pointer<float>(loss) = static_cast<float>(ordered_sum(to.rows.losses, n) / total);
    *to.factor = static_cast<float>(1.0 / total);
  }
  return bad;
}

void cross_entropy_backward_binding(const py::tuple& rows, Address state, Address weight, float smoothing,
                                    Address row_grad, std::int64_t grad_batch_stride,
                                    std::int64_t grad_token_stride, Address grad) {
  const Rows all = rows_of(rows);
  const State from = state_of(all, state, weight, smoothing);
  py::gil_scoped_release release;
  cross_entropy_backward(all, from.rows, pointer<const float>(row_grad), grad_batch_stride,
                         grad_token_stride, *from.factor, pointer<void>(grad));
}

// A tile is (logits, dtype, rows, classes, first_class, labels, threads), and then anything to keep alive.
Tile tile_of(const py::tuple& t) {
  const auto dtype = t[1].cast<DType>();
  if (dtype > DType::kFloat64) throw py::type_error("logits must be of a floating-point type");
  const auto at = [&](std::size_t i) { return t[i].cast<std::int64_t>(); };
  return {pointer<void>(t[0].cast<Address>()), dtype, at(2), at(3), at(4),
          pointer<const std::int64_t>(t[5].cast<Address>()), static_cast<int>(at(6))};
}

void add_tile_binding(const py::tuple& tile, int sought, bool totals, bool begins, Address sums) {
  const Tile all = tile_of(tile);
  if (sought < 0 || sought > 2) throw py::value_error("sought must be 0, 1 or 2");
  py::gil_scoped_release release;
  add_tile(all, static_cast<Sought>(sought), totals, begins, pointer<RowSums>(sums));
}

// `losses` and `state` are 0 where no loss is wanted.
void close_sums_binding(Address sums, std::int64_t rows, std::int64_t classes, int threads,
                        const std::array<Address, kMetrics>& out, Address losses, Address state, float smoothing) {
  RowScores scores;
  for (int i = 0; i < kMetrics; ++i) scores.metric[i] = pointer<float>(out[i]);
  float* at = pointer<float>(state);
  const LossRows loss{pointer<float>(losses), at, at + rows, at + 2 * rows, nullptr, smoothing};
  py::gil_scoped_release release;
  close_sums(pointer<const RowSums>(sums), rows, classes, threads, scores, at ? &loss : nullptr);
}

void tile_gradient_binding(const py::tuple& tile, std::int64_t classes, Address state, std::int64_t state_rows,
                           float smoothing, Address row_grad, float scale, float softcap) {
  const Tile all = tile_of(tile);
  if (all.dtype == DType::kFloat64) throw py::type_error("the loss takes float16, bfloat16 or float32");
  float* at = pointer<float>(state);
  const LossRows loss{nullptr, at, at + state_rows, at + 2 * state_rows, nullptr, smoothing};
  py::gil_scoped_release release;
  tile_gradient(all, classes, loss, pointer<const float>(row_grad), scale, softcap);
}

std::int64_t select_topk_binding(Address scores, DType dtype, std::int64_t n, std::int64_t stride,
                                 std::int64_t k, bool largest, NanPolicy nan, int threads, Address out) {
  if (k < 0 || k > n) throw py::value_error("select_topk needs 0 <= k <= n");
  py::gil_scoped_release release;
  return select_topk(pointer<const void>(scores), dtype, n, stride, k, largest, nan, threads,
                     pointer<std::int64_t>(out));
}

void uniforms_binding(std::uint64_t seed, std::uint64_t round, std::uint64_t first, std::int64_t n, int threads,
                      Address out) {
  py::gil_scoped_release release;
  uniforms({seed, round}, first, n, threads, pointer<double>(out));
}

void uniforms_of_binding(std::uint64_t seed, std::uint64_t round, Address ids, std::int64_t n, int threads,
                         Address out) {
  py::gil_scoped_release release;
  uniforms_of({seed, round}, pointer<const std::int64_t>(ids), n, threads, pointer<double>(out));
}

void gumbel_keys_binding(std::uint64_t seed, std::uint64_t round, Address log_weights, std::int64_t n, int threads,
                         Address out) {
  py::gil_scoped_release release;
  gumbel_keys({seed, round}, pointer<const double>(log_weights), n, threads, pointer<double>(out));
}

void logarithms_binding(Address x, std::int64_t n, int threads, Address out) {
  py::gil_scoped_release release;
  logarithms(pointer<const double>(x), n, threads, pointer<double>(out));
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "C++ core of fastprune. See row_scores.h, select_topk.h and draws.h in csrc.";

  py::enum_<DType>(m, "DType")
      .value("float16", DType::kFloat16)
      .value("bfloat16", DType::kBFloat16)
      .value("float32", DType::kFloat32)
      .value("float64", DType::kFloat64)
      .value("int8", DType::kInt8)
      .value("uint8", DType::kUInt8)
      .value("int16", DType::kInt16)
      .value("uint16", DType::kUInt16)
      .value("int32", DType::kInt32)
      .value("uint32", DType::kUInt32)
      .value("int64", DType::kInt64)
      .value("uint64", DType::kUInt64);

  py::enum_<NanPolicy>(m, "NanPolicy")
      .value("raise", NanPolicy::kRaise)
      .value("first", NanPolicy::kFirst)
      .value("last", NanPolicy::kLast);

  // Positional arguments alone: matching a dozen keywords takes as long as scoring a small batch.
  m.def("row_scores", &row_scores_binding,
        "(rows, outputs): scores rows. Returns -1, or the flat position of the first bad label.");
  m.def("cross_entropy_forward", &cross_entropy_forward_binding,
        "(rows, outputs, loss, state, weight, smoothing, reduction): returns as row_scores.");
  m.def("cross_entropy_backward", &cross_entropy_backward_binding,
        "(rows, state, weight, smoothing, row_grad, batch_stride, token_stride, grad)");
  m.def("add_tile", &add_tile_binding, "(tile, sought, totals, begins, sums): adds a tile of logits to row sums.");
  m.def("close_sums", &close_sums_binding,
        "(sums, rows, classes, threads, outputs, losses, state, smoothing): writes scores and losses.");
  m.def("tile_gradient", &tile_gradient_binding,
        "(tile, classes, state, state_rows, smoothing, row_grad, scale, softcap): the tile becomes its gradient.");
  m.def("instruction_set", [] { return name_of(instruction_set()); },
        "The instruction set the row kernels run on.");
  m.def("instruction_sets", [] {
    py::list names;
    for (const auto set : {InstructionSet::kPortable, InstructionSet::kAvx2, InstructionSet::kAvx512})
      if (has(set)) names.append(name_of(set));
    return names;
  }, "Those this build and this processor have.");
  m.def("select_topk", &select_topk_binding,
        "(scores, dtype, n, stride, k, largest, nan, threads, out): selects. Returns -1, or the position of the "
        "first NaN.");
  m.def("uniforms", &uniforms_binding, "(seed, round, first, n, threads, out)");
  m.def("uniforms_of", &uniforms_of_binding, "(seed, round, ids, n, threads, out)");
  m.def("gumbel_keys", &gumbel_keys_binding, "(seed, round, log_weights, n, threads, out)");
  m.def("logarithms", &logarithms_binding, "(x, n, threads, out)");
}
