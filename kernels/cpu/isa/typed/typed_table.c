#include "cpu/isa/typed/elem.h"

const covi_typed_loops COVI_TYPED(covi_typed_loops) = {
    .add = COVI_TYPED(covi_add),
    .swiglu_forward = COVI_TYPED(covi_swiglu_forward),
    .swiglu_backward = COVI_TYPED(covi_swiglu_backward),
    .rmsnorm_forward = COVI_TYPED(covi_rmsnorm_forward),
    .rmsnorm_backward_x = COVI_TYPED(covi_rmsnorm_backward_x),
    .rmsnorm_backward_g = COVI_TYPED(covi_rmsnorm_backward_g),
    .rope = COVI_TYPED(covi_rope),
    .cross_entropy = COVI_TYPED(covi_cross_entropy),
    .attention_forward = COVI_TYPED(covi_attention_forward),
    .attention_backward = COVI_TYPED(covi_attention_backward),
    .attention_forward_bytes = COVI_TYPED(covi_attention_forward_bytes),
    .attention_backward_bytes = COVI_TYPED(covi_attention_backward_bytes),
    .narrow = COVI_TYPED(covi_narrow),
    .add_wide = COVI_TYPED(covi_add_wide),
};
