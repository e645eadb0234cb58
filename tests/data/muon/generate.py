#!/usr/bin/env python3
"""Writes muon.json: steps of the inner optimiser "muon" (protocol 2.6) computed with numpy in double precision.

usage: python3 generate.py > muon.json        needs numpy

Written from the formulas of the protocol, not from lib/optim: the matrix is transposed where it has more rows than
columns, and every product is made whole. Weights and gradients are drawn here and rounded to multiples of 2^-12, so
that they are exact in fp32; so are learning rates and clip factors.
"""
import json
import math
import sys

import numpy as np

COEFFICIENTS = [(4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
                (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012)]
TENSORS = [("tok_embeddings.weight", 7, 6), ("layers.0.attention.wq.weight", 6, 6),
           ("layers.0.attention.wk.weight", 3, 6), ("layers.0.feed_forward.w1.weight", 11, 6),
           ("layers.0.feed_forward.w2.weight", 6, 11), ("layers.0.attention_norm.weight", 0, 6),
           ("output.weight", 7, 6)]
BETA1, BETA2, EPS, DECAY, EXEMPT = 0.9, 0.95, 1e-8, 0.1, False



def newton_schulz(g, steps):
    x = g / (np.linalg.norm(g) + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for i in range(steps):
        a, b, c = COEFFICIENTS[min(i, 4)]
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def muon(w, m, g, lr, case):
    mu = case["momentum"]
    m = m + (1 - mu) * (g - m)
    u = g + mu * (m - g) if case["nesterov"] else m
    rows, cols = w.shape
    scale = 0.2 * math.sqrt(max(rows, cols)) if case["scale"] == "rms" else math.sqrt(max(1.0, rows / cols))
    w = w - lr * case["decay"] * w - lr * scale * newton_schulz(u, case["steps"])
    return w, m


def adamw(w, state, g, lr, step):
    m, v = state
    w = w - lr * DECAY * w
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g * g
    w = w - lr * (m / (1 - BETA1 ** step)) / (np.sqrt(v / (1 - BETA2 ** step)) + EPS)
    return w, (m, v)


def is_matrix(name, rows, case):
    if rows == 0 or "embed" in name or "lm_head" in name:
        return False
    return case["output"] or name != "output.weight"


def draw(rng, rows, cols):
    shape = (rows, cols) if rows else (cols,)
    return np.round(rng.normal(size=shape) * 4096) / 4096


def run(case, seed):
    rng = np.random.default_rng(seed)
    weights = {n: draw(rng, r, c) for n, r, c in TENSORS}
    out = dict(case, weights={n: w.ravel().tolist() for n, w in weights.items()}, steps_taken=[])
    first = {n: np.zeros_like(w) for n, w in weights.items()}
    second = {n: np.zeros_like(w) for n, w in weights.items()}
    for step in range(1, 4):
        lr, clip = 2.0 ** -(5 + step), 2.0 ** (1 - step)
        grads = {n: draw(rng, r, c) for n, r, c in TENSORS}
        for n, r, _ in TENSORS:
            g = clip * grads[n]
            if is_matrix(n, r, case):
                weights[n], first[n] = muon(weights[n], first[n], g, lr, case)
            else:
                weights[n], (first[n], second[n]) = adamw(weights[n], (first[n], second[n]), g,
                                                          lr * case["adamw_lr_ratio"], step)
        out["steps_taken"].append({
            "lr": lr, "grad_scale": clip, "gradient": {n: g.ravel().tolist() for n, g in grads.items()},
            "weights": {n: [float("%.9g" % x) for x in w.ravel()] for n, w in weights.items()},
            "first": {n: [float("%.9g" % x) for x in m.ravel()] for n, m in first.items()}})
    return out


def main():
    base = {"momentum": 0.95, "nesterov": True, "steps": 5, "decay": 0.01, "scale": "rms", "output": True,
            "adamw_lr_ratio": 0.2}
    cases = [base, dict(base, scale="shape", output=False), dict(base, nesterov=False, momentum=0.5, steps=7),
             dict(base, steps=1, decay=0.0, adamw_lr_ratio=1.0)]
    json.dump({"schema": "muon/1", "tensors": [[n, r, c] for n, r, c in TENSORS],
               "adamw": {"beta1": BETA1, "beta2": BETA2, "eps": EPS, "decay": DECAY, "exempt_vectors": EXEMPT},
               "cases": [run(c, 42 + i) for i, c in enumerate(cases)]}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
