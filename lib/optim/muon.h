/* Muon (protocol 2.6): the momentum of a matrix, brought near an orthogonal matrix by Newton-Schulz iterations, is the
 * direction of its step. For one matrix W [rows, cols] with gradient g:
 *
 *   m <- m + (1 - mu) (g - m);   u = g + mu (m - g) (Nesterov), or m
 *   X = u / (|u| + 1e-7), Frobenius norm; with A = X X' (X' X where rows > cols), steps times:
 *   X <- a X + (b A + c A A) X   with a, b, c of cov_muon_coefficients
 *   W <- (1 - lr decay) W - lr scale X
 *
 * The original iterates in bf16, this in f32. All functions are Local. */
#ifndef COVENANT_OPTIM_MUON_H
#define COVENANT_OPTIM_MUON_H

#include <stdint.h>

#include "base/status.h"
#include "model/params.h"
#include "ops.h"

enum { COV_MUON_STEPS_MAX = 16 };

/* How long a step is: what X is multiplied with besides the learning rate. */
typedef enum {
  COV_MUON_SCALE_RMS,  /* 0.2 sqrt(max(rows, cols)): the root mean square of AdamW's steps, learning rates carry over */
  COV_MUON_SCALE_SHAPE /* sqrt(max(1, rows / cols)) */
} cov_muon_scale;

typedef struct {
  double momentum; /* mu, in [0, 1) */
  int nesterov;
  int steps;    /* Newton-Schulz iterations, 1 .. COV_MUON_STEPS_MAX */
  double decay; /* of the matrices, >= 0; on tensors whose row in the table has decay = 1 */
  cov_muon_scale scale;
  int output; /* 1: an untied output projection is one of the matrices, as its name makes it in the original */
  double adamw_lr_ratio; /* learning rate of all other tensors, which AdamW moves, as a part of the matrices', >= 0 */
} cov_muon_config;

/** momentum 0.95 with Nesterov, 5 iterations, decay 0.01, scale RMS, output 1, ratio 0.2 (protocol 2.6). */
void cov_muon_config_default(cov_muon_config *config);
/** COV_EUSAGE names the setting, its value and what it must be. */
cov_status cov_muon_config_verify(const cov_muon_config *config);

/** Whether Muon moves this tensor: two-dimensional, its name holds neither "embed" nor "lm_head", and it is not the
 *  output projection if config->output is 0. */
int cov_muon_moves(const cov_muon_config *config, const cov_param *tensor);
/** Coefficients a, b, c of iteration `i` from 0; from the sixth on those of the fifth. */
const double *cov_muon_coefficients(int i);
/** Floats of scratch that a step of a rows x cols matrix needs. */
int64_t cov_muon_scratch_elems(int64_t rows, int64_t cols);

/** x[rows, cols] <- nearly orthogonal, as above, from any x: singular values far above 1e-3 of the largest end within
 *  0.3 of 1, a zero matrix stays zero. scratch[cov_muon_scratch_elems]. COV_EBUG: an operation refused. */
cov_status cov_muon_orthogonalise(const cov_ops *ops, const cov_place *place, int64_t rows, int64_t cols, int steps,
                                  float *x, float *scratch);
/* A step in three parts, because the first and the last are element by element, so that a rank can do them for what it
 * owns of a matrix, and the one between (cov_muon_orthogonalise on `grad`) is not. */
/** m moves, grad[tensor->elems] becomes the direction u. */
cov_status cov_muon_direction(const cov_muon_config *config, const cov_param *tensor, const cov_ops *ops,
                              const cov_place *place, float *m, float *grad, double grad_scale);
/** w moves along x[tensor->elems], the orthogonalised direction. `whole`: the matrix whose shape counts; `tensor`: what
 *  is here of it. */
cov_status cov_muon_move(const cov_muon_config *config, const cov_param *whole, const cov_param *tensor,
                         const cov_ops *ops, const cov_place *place, float *w, const float *x, double lr);

#endif
