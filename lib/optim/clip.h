/* Gradient norm, clipping, and the checks that stop a run whose numbers are no longer numbers. The norm is the sum
 * of squares of each tensor in double, added in table order, hence the same for the same gradient. All Local. */
#ifndef COVENANT_OPTIM_CLIP_H
#define COVENANT_OPTIM_CLIP_H

#include "base/status.h"
#include "model/params.h"
#include "ops.h"

/** Sum of the squares of x over the tensors of the table, in table order, up to and with the first that holds an
 * infinity or a NaN; *bad is that one's index, params->n if all are finite. The parts of a replica that is shared out
 * over ranks are tables too (fsdp/replica.h): the sums of all ranks add up to that of the whole, the lowest *bad is its
 * first. */
cov_status cov_sum_squares(const cov_params *params, const cov_ops *ops, const cov_place *place, const float *x,
                           double *sum, int *bad);
/** COV_OK if bad = params->n; else COV_ENUMERIC: the gradient of that tensor is not finite. */
cov_status cov_grad_verify(const cov_params *params, int bad);
/** COV_OK if the loss is finite; else COV_ENUMERIC from what cov_sum_squares says of the weights. */
cov_status cov_loss_judge(const cov_params *params, double loss, int64_t step, double sum, int bad);

/** *norm = L2 norm of grad[span] over all tensors. COV_ENUMERIC names the first tensor (in table order) that holds
 *  an infinity or a NaN; *norm is then that value. */
cov_status cov_grad_norm(const cov_params *params, const cov_ops *ops, const cov_place *place, const float *grad,
                         double *norm);
/** Factor that brings a gradient of this norm to at most max_norm, as torch does it: min(1, max_norm / (norm + 1e-6)).
 *  max_norm <= 0: no clipping, 1. Hand it to cov_adamw_step as grad_scale. */
double cov_clip_factor(double norm, double max_norm);
/** COV_ENUMERIC if the loss is not finite; the text names the first tensor of theta that is not finite either, or says
 *  that the weights are sound and the batch or the learning rate is to blame. */
cov_status cov_loss_verify(const cov_params *params, const cov_ops *ops, const cov_place *place, const float *theta,
                           double loss, int64_t step);

#endif
