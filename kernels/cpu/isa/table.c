#include "cpu/isa/isa.h"

#define COVI_TEXT2(a) #a
#define COVI_TEXT(a)  COVI_TEXT2(a)

const covi_loops COVI_NAME(covi_loops) = {
    .name = COVI_TEXT(COVI_ISA),
    .typed = {[COV_F32] = &COVI_JOIN(COVI_NAME(covi_typed_loops), f32),
              [COV_BF16] = &COVI_JOIN(COVI_NAME(covi_typed_loops), bf16)},
    .sum_squares = COVI_NAME(covi_sum_squares),
    .adamw = COVI_NAME(covi_adamw),
    .momentum = COVI_NAME(covi_momentum),
    .blend = COVI_NAME(covi_blend),
    .scale = COVI_NAME(covi_scale),
    .exp = COVI_NAME(covi_exp),
    .matmul = COVI_NAME(covi_matmul),
};
