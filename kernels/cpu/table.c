#include "cpu/cpu.h"

const cov_ops *cov_ops_cpu(void) {
  static const cov_ops table = {
      .name = "cpu",
      .matmul = covi_cpu_matmul,
      .linear_bytes = covi_cpu_linear_bytes,
      .linear_prepare = covi_cpu_linear_prepare,
      .linear_forward = covi_cpu_linear_forward,
      .linear_input_gradient = covi_cpu_linear_input_gradient,
      .linear_weight_gradient = covi_cpu_linear_weight_gradient,
      .linear_scratch_bytes = covi_cpu_linear_scratch_bytes,
      .embed_forward = covi_cpu_embed_forward,
      .embed_backward = covi_cpu_embed_backward,
      .rmsnorm_forward = covi_cpu_rmsnorm_forward,
      .rmsnorm_backward = covi_cpu_rmsnorm_backward,
      .rope = covi_cpu_rope,
      .attention_forward = covi_cpu_attention_forward,
      .attention_backward = covi_cpu_attention_backward,
      .swiglu_forward = covi_cpu_swiglu_forward,
      .swiglu_backward = covi_cpu_swiglu_backward,
      .cross_entropy = covi_cpu_cross_entropy,
      .add = covi_cpu_add,
      .sum_squares = covi_cpu_sum_squares,
      .adamw = covi_cpu_adamw,
      .momentum = covi_cpu_momentum,
      .blend = covi_cpu_blend,
      .scratch_bytes = covi_cpu_attention_scratch_bytes,
  };
  return &table;
}
