#include "ref/ref.h"

const cov_ops *cov_ops_ref(void) {
  static const cov_ops table = {
      .name = "ref",
      .matmul = covi_ref_matmul,
      .linear_bytes = covi_ref_linear_bytes,
      .linear_prepare = covi_ref_linear_prepare,
      .linear_forward = covi_ref_linear_forward,
      .linear_input_gradient = covi_ref_linear_input_gradient,
      .linear_weight_gradient = covi_ref_linear_weight_gradient,
      .linear_scratch_bytes = covi_ref_linear_scratch_bytes,
      .embed_forward = covi_ref_embed_forward,
      .embed_backward = covi_ref_embed_backward,
      .rmsnorm_forward = covi_ref_rmsnorm_forward,
      .rmsnorm_backward = covi_ref_rmsnorm_backward,
      .rope = covi_ref_rope,
      .attention_forward = covi_ref_attention_forward,
      .attention_backward = covi_ref_attention_backward,
      .swiglu_forward = covi_ref_swiglu_forward,
      .swiglu_backward = covi_ref_swiglu_backward,
      .cross_entropy = covi_ref_cross_entropy,
      .add = covi_ref_add,
      .sum_squares = covi_ref_sum_squares,
      .adamw = covi_ref_adamw,
      .momentum = covi_ref_momentum,
      .blend = covi_ref_blend,
      .scratch_bytes = covi_ref_attention_scratch_bytes,
  };
  return &table;
}
