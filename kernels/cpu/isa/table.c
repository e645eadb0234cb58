#include "cpu/isa/isa.h"

#define COVI_TEXT2(a) #a
#define COVI_TEXT(a)  COVI_TEXT2(a)

const covi_loops COVI_NAME(covi_loops) = {
    .name = COVI_TEXT(COVI_ISA),
    .add = COVI_NAME(covi_add),
    .sum_squares = COVI_NAME(covi_sum_squares),
    .adamw = COVI_NAME(covi_adamw),
    .swiglu_forward = COVI_NAME(covi_swiglu_forward),
    .swiglu_backward = COVI_NAME(covi_swiglu_backward),
    .rmsnorm_forward = COVI_NAME(covi_rmsnorm_forward),
    .rmsnorm_backward_x = COVI_NAME(covi_rmsnorm_backward_x),
    .rmsnorm_backward_g = COVI_NAME(covi_rmsnorm_backward_g),
    .rope = COVI_NAME(covi_rope),
    .cross_entropy = COVI_NAME(covi_cross_entropy),
    .exp_row = COVI_NAME(covi_exp_row),
    .scale = COVI_NAME(covi_scale),
    .dot = COVI_NAME(covi_dot),
    .attention_grad = COVI_NAME(covi_attention_grad),
    .exp = COVI_NAME(covi_exp),
    .matmul = COVI_NAME(covi_matmul),
};
