// Two operations whose gradients libtorch computes slowly on a CPU, as autograd functions of our own. The results are libtorch's.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <vector>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Kernels up to this width have a fast weight gradient in oneDNN; wider ones take ten times as long.
constexpr int64_t kFastWidth = 3;

// Zeros before and behind one dimension of the input; negative numbers cut pixels off.
struct Pad {
  int64_t before, behind;
};

bool symmetric(Pad rows, Pad columns) { return rows.before == rows.behind && columns.before == columns.behind; }

Tensor padded(const Tensor& x, Pad rows, Pad columns) {
  return at::constant_pad_nd(x, {columns.before, columns.behind, rows.before, rows.behind});
}

std::vector<Tensor> gradients(const Tensor& grad, const Tensor& x, const Tensor& weight, int64_t stride, std::array<int64_t, 2> padding,
                              std::array<bool, 3> wanted) {
  auto [input, kernel, bias] = at::convolution_backward(grad, x, weight, at::IntArrayRef{weight.size(0)}, {stride, stride}, padding, {1, 1},
                                                        false, {0, 0}, weight.size(0), wanted);
  return {input, kernel, bias};
}

Tensor input_gradient(const Tensor& grad, const Tensor& x, const Tensor& weight, int64_t stride, Pad rows, Pad columns) {
  if (symmetric(rows, columns)) {
    return gradients(grad, x, weight, stride, {rows.before, columns.before}, {true, false, false})[0];
  }
  const auto height = x.size(2), width = x.size(3);
  // Only its shape matters.
  const auto shape = at::empty({x.size(0), x.size(1), height + rows.before + rows.behind, width + columns.before + columns.behind},
                               x.options(), at::MemoryFormat::ChannelsLast);
  const auto whole = gradients(grad, shape, weight, stride, {0, 0}, {true, false, false})[0];
  return whole.narrow(2, rows.before, height).narrow(3, columns.before, width);
}

// Gradients of kernel and bias. A wide kernel's is put together from those of its columns, a few at a time: the columns from `first` on
// see the input moved by as many pixels.
variable_list kernel_gradients(const Tensor& grad, const Tensor& x, const Tensor& weight, int64_t stride, Pad rows, Pad columns) {
  const auto width = weight.size(3);
  if (width <= kFastWidth && symmetric(rows, columns)) {
    auto all = gradients(grad, x, weight, stride, {rows.before, columns.before}, {false, true, true});
    return {all[1], all[2]};
  }
  // Rows that need as many zeros on both sides leave them to the convolution.
  const auto row_padding = rows.before == rows.behind ? rows.before : 0;
  const auto rest = row_padding == 0 ? rows : Pad{0, 0};
  std::vector<Tensor> parts;
  Tensor bias;
  for (int64_t first = 0; first < width; first += kFastWidth) {
    const auto count = std::min(kFastWidth, width - first);
    const auto before = columns.before - first;
    const auto behind = (grad.size(3) - 1) * stride + count - x.size(3) - before;
    const auto moved = padded(x, rest, {before, behind});
    const auto part = weight.narrow(3, first, count).contiguous();
    auto all = gradients(grad, moved, part, stride, {row_padding, 0}, {false, true, first == 0});
    parts.push_back(all[1]);
    if (first == 0) bias = all[2];
  }
  return {parts.size() == 1 ? parts[0] : at::cat(parts, 3), bias};
}

// A convolution that filters each channel by itself.
struct Depthwise : public torch::autograd::Function<Depthwise> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t stride, int64_t top,
                        int64_t bottom, int64_t left, int64_t right) {
    context->save_for_backward({x, weight});
    context->saved_data["geometry"] = std::vector<int64_t>{stride, top, bottom, left, right};
    const Pad rows{top, bottom}, columns{left, right};
    const std::array<int64_t, 2> strides{stride, stride}, none{0, 0}, dilation{1, 1}, half{top, left};
    if (symmetric(rows, columns)) return at::conv2d(x, weight, bias, strides, half, dilation, weight.size(0));
    return at::conv2d(padded(x, rows, columns), weight, bias, strides, none, dilation, weight.size(0));
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto geometry = context->saved_data["geometry"].toIntVector();
    const Pad rows{geometry[1], geometry[2]}, columns{geometry[3], geometry[4]};
    const auto grad = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    Tensor input;
    if (context->needs_input_grad(0)) input = input_gradient(grad, saved[0], saved[1], geometry[0], rows, columns);
    const auto kernel = kernel_gradients(grad, saved[0], saved[1], geometry[0], rows, columns);
    return {input, kernel[0], kernel[1], Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// min(max(x, 0), 6) in place of x. The result is all that the gradient needs; libtorch would keep a copy of x.
struct Relu6 : public torch::autograd::Function<Relu6> {
  static Tensor forward(AutogradContext* context, Tensor x) {
    x.clamp_(0, 6);
    context->mark_dirty({x});
    context->save_for_backward({x});
    return x;
  }

  // By reference, as the caller's variable is: a copy would be one more holder.
  static variable_list backward(AutogradContext* context, variable_list& grads) {
    const auto result = context->get_saved_variables()[0];
    auto grad = std::move(grads[0]);
    // A gradient that nobody else holds is overwritten: that spares the memory of another.
    if (grad.use_count() == 1 && grad.storage().use_count() == 1 && grad.strides() == result.strides()) {
      return {at::hardtanh_backward_out(grad, grad, result, 0, 6)};
    }
    return {at::hardtanh_backward(grad, result, 0, 6)};
  }
};

// What an operation returns, or null with the exception's text in `error`.
template <typename Operation>
Tensor* guarded(char* error, size_t length, Operation operation) {
  try {
    return new Tensor(operation());
  } catch (const std::exception& exception) {
    std::strncpy(error, exception.what(), length - 1);
    error[length - 1] = 0;
    return nullptr;
  }
}

}  // namespace

extern "C" {

Tensor* sortie_depthwise(const Tensor* x, const Tensor* weight, const Tensor* bias, int64_t stride, const int64_t* padding, char* error,
                         size_t length) {
  return guarded(error, length,
                 [&] { return Depthwise::apply(*x, *weight, *bias, stride, padding[0], padding[1], padding[2], padding[3]); });
}

Tensor* sortie_relu6(const Tensor* x, char* error, size_t length) {
  return guarded(error, length, [&] { return Relu6::apply(*x); });
}
}
