// Products that stay in single precision where others may be rounded to TF32.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guarded.h"

using at::Tensor;
using sortie::guarded;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// x [n, inputs] times weight [outputs, inputs], transposed, plus bias. `at::linear` would hand bias and product to cuBLASLt together, which
// does not ask the guard; a plain product goes through cuBLAS, which does. The guard holds for one thread, and gradients are computed on
// another one, so each direction has its own.
struct ExactLinear : torch::autograd::Function<ExactLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const at::NoTF32Guard exact;
    context->save_for_backward({x, weight});
    return at::mm(x, weight.t()).add_(bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const at::NoTF32Guard exact;
    const auto saved = context->get_saved_variables();
    const auto& grad = grads[0];
    Tensor x;
    if (context->needs_input_grad(0)) x = at::mm(grad, saved[1]);
    return {x, at::mm(grad.t(), saved[0]), grad.sum(0)};
  }
};

}  // namespace

extern "C" {

Tensor* sortie_exact_linear(const Tensor* x, const Tensor* weight, const Tensor* bias, char* error, size_t length) {
  return guarded(error, length, [&] { return new Tensor(ExactLinear::apply(*x, *weight, *bias)); });
}

at::NoTF32Guard* sortie_without_tf32(char* error, size_t length) {
  return guarded(error, length, [&] { return new at::NoTF32Guard(); });
}

void sortie_with_tf32_again(at::NoTF32Guard* guard) { delete guard; }

int32_t sortie_tf32_is_off() { return at::NoTF32Guard::should_disable_tf32() ? 1 : 0; }
}
