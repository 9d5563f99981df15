// Operations with gradients of our own, where libtorch takes much longer to the same results: depthwise convolutions and ReLU6 on a CPU,
// and BatchNorms folded into convolutions, of which a GPU could compute the arithmetic many times over while the host starts it.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "guarded.h"

using at::Tensor;
using sortie::guarded;
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

// The kernels and biases of convolutions with the affine maps of BatchNorms behind them folded in: kernel * gamma / sigma and
// beta - gamma * mean / sigma, all convolutions at once. Takes kernels, gammas and betas, one behind the other, and 1 / sigma and
// -mean / sigma of all channels; gives kernels and biases, rounded once.
struct Fold : torch::autograd::Function<Fold> {
  static variable_list forward(AutogradContext* context, at::TensorList all, const Tensor& inverse_deviation, const Tensor& shift,
                               bool bf16) {
    const auto n = all.size() / 3;
    const auto kernels = all.slice(0, n);
    std::vector<int64_t> channels;
    for (const auto& kernel : kernels) channels.push_back(kernel.size(0));
    const auto kind = bf16 ? at::kBFloat16 : at::kFloat;
    const auto gamma = at::cat(all.slice(n, n)), beta = at::cat(all.slice(2 * n, n));
    const auto scale = at::mul(gamma, inverse_deviation);
    const auto scales = scale.split_with_sizes(channels);
    variable_list results;
    for (size_t i = 0; i < n; ++i) {
      auto folded = at::empty_like(kernels[i], kernels[i].options().dtype(kind));
      results.push_back(at::mul_out(folded, kernels[i], scales[i].view({-1, 1, 1, 1})));
    }
    for (auto& bias : at::addcmul(beta, gamma, shift).to(kind).split_with_sizes(channels)) results.push_back(bias);
    variable_list saved(kernels.begin(), kernels.end());
    saved.insert(saved.end(), {scale, inverse_deviation, shift});
    context->save_for_backward(saved);
    context->saved_data["channels"] = channels;
    return results;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto channels = context->saved_data["channels"].toIntVector();
    const auto n = channels.size();
    const auto &scale = saved[n], &inverse_deviation = saved[n + 1], &shift = saved[n + 2];
    const auto scales = scale.split_with_sizes(channels);
    const auto products = at::empty_like(scale);
    auto parts = products.split_with_sizes(channels);
    variable_list results, biases;
    for (size_t i = 0; i < n; ++i) {
      const auto& kernel = saved[i];
      // What the network did not use has no gradient.
      const auto grad = grads[i].defined() ? grads[i] : at::zeros_like(kernel);
      auto result = at::empty_like(kernel);
      results.push_back(at::mul_out(result, grad, scales[i].view({-1, 1, 1, 1})));
      at::sum_out(parts[i], at::mul(kernel, grad), {1, 2, 3});
      biases.push_back(grads[n + i].defined() ? grads[n + i] : at::zeros_like(parts[i]));
    }
    const auto beta = at::cat(biases).to(scale.scalar_type());
    const auto gamma = products.mul_(inverse_deviation).addcmul_(beta, shift);
    for (const auto& all : {gamma, beta}) {
      for (auto& part : all.split_with_sizes(channels)) results.push_back(part);
    }
    results.insert(results.end(), {Tensor(), Tensor(), Tensor()});
    return results;
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

}  // namespace

extern "C" {

Tensor* sortie_depthwise(const Tensor* x, const Tensor* weight, const Tensor* bias, int64_t stride, const int64_t* padding, char* error,
                         size_t length) {
  return guarded(error, length, [&] {
    return new Tensor(Depthwise::apply(*x, *weight, *bias, stride, padding[0], padding[1], padding[2], padding[3]));
  });
}

Tensor* sortie_relu6(const Tensor* x, char* error, size_t length) {
  return guarded(error, length, [&] { return new Tensor(Relu6::apply(*x)); });
}

// Writes 2 n tensors to `results`: n kernels, n biases.
void* sortie_fold(const Tensor* const* tensors, size_t n, const Tensor* inverse_deviation, const Tensor* shift, int32_t bf16,
                  Tensor** results, char* error, size_t length) {
  return guarded(error, length, [&]() -> void* {
    variable_list all;
    for (size_t i = 0; i < 3 * n; ++i) all.push_back(*tensors[i]);
    const auto folded = Fold::apply(at::TensorList(all), *inverse_deviation, *shift, static_cast<bool>(bf16));
    std::vector<std::unique_ptr<Tensor>> owned;
    for (const auto& tensor : folded) owned.push_back(std::make_unique<Tensor>(tensor));
    for (size_t i = 0; i < 2 * n; ++i) results[i] = owned[i].release();
    return results;
  });
}
}
