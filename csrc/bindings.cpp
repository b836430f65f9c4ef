// fastprune._core: the C++ core for Python.
//
// Arrays come as addresses, shapes and strides, so the extension needs neither torch's headers nor
// NumPy's, and one build serves every version of both. fastprune.scores.cpu and
// fastprune.selection.topk are the only callers; they check and keep alive what they pass.
#include <pybind11/pybind11.h>

#include <cstdint>

#include "row_scores.h"
#include "select_topk.h"

namespace py = pybind11;
using namespace fastprune;

namespace {

template <class T>
T* pointer(std::uintptr_t address) { return reinterpret_cast<T*>(address); }

std::int64_t row_scores_binding(std::uintptr_t logits, DType dtype, std::int64_t batch,
                                std::int64_t tokens, std::int64_t classes,
                                std::int64_t logits_batch_stride, std::int64_t logits_token_stride,
                                std::uintptr_t labels, std::int64_t labels_batch_stride,
                                std::int64_t labels_token_stride, std::int64_t shift,
                                std::int64_t ignore_index, std::uintptr_t el2n,
                                std::uintptr_t loss, int threads) {
  if (dtype == DType::kInt32 || dtype == DType::kInt64)
    throw py::type_error("row_scores takes floating-point logits");
  const RowScoresArgs args{pointer<const void>(logits), dtype, batch, tokens, classes,
                           logits_batch_stride, logits_token_stride,
                           pointer<const std::int64_t>(labels), labels_batch_stride,
                           labels_token_stride, shift, ignore_index, pointer<float>(el2n),
                           pointer<float>(loss), threads};
  py::gil_scoped_release release;
  const std::int64_t bad = first_bad_label(args);
  if (bad < 0) row_scores(args);
  return bad;
}

std::int64_t select_topk_binding(std::uintptr_t scores, DType dtype, std::int64_t n,
                                 std::int64_t stride, std::int64_t k, bool largest,
                                 std::uintptr_t out) {
  if (k < 0 || k > n) throw py::value_error("select_topk needs 0 <= k <= n");
  py::gil_scoped_release release;
  const std::int64_t bad = first_nan(pointer<const void>(scores), dtype, n, stride);
  if (bad < 0)
    select_topk(pointer<const void>(scores), dtype, n, stride, k, largest,
                pointer<std::int64_t>(out));
  return bad;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "C++ core of fastprune; see csrc/row_scores.h and csrc/select_topk.h.";

  py::enum_<DType>(m, "DType")
      .value("float16", DType::kFloat16)
      .value("bfloat16", DType::kBFloat16)
      .value("float32", DType::kFloat32)
      .value("float64", DType::kFloat64)
      .value("int32", DType::kInt32)
      .value("int64", DType::kInt64);

  m.def("row_scores", &row_scores_binding, py::arg("logits"), py::arg("dtype"), py::arg("batch"),
        py::arg("tokens"), py::arg("classes"), py::arg("logits_batch_stride"),
        py::arg("logits_token_stride"), py::arg("labels"), py::arg("labels_batch_stride"),
        py::arg("labels_token_stride"), py::arg("shift"), py::arg("ignore_index"), py::arg("el2n"),
        py::arg("loss"), py::arg("threads"),
        "Scores rows; returns -1, or the flat position of the first bad label and writes nothing.");
  m.def("select_topk", &select_topk_binding, py::arg("scores"), py::arg("dtype"), py::arg("n"),
        py::arg("stride"), py::arg("k"), py::arg("largest"), py::arg("out"),
        "Selects; returns -1, or the position of the first NaN and writes nothing.");
}
