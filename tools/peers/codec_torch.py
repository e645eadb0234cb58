#!/usr/bin/env python3
"""The original's codec in PyTorch beside ours, on the same CPU, with the same threads, in turns.

What is timed on the PyTorch side are the operators of templar as protocol 3 describes them, eager, in place where the
original is. compress: error feedback, chunks, top-k, 4-bin quantiser, 12-bit packing, and the residual, for which the
original unpacks its own payload and scatters it as it would that of a peer (e - decode(decompress(payload)), 3.2).
aggregate: unpacking, dequantising, median-norm clip, mean over senders, norm and mean of the result (its fingerprint),
look for what is not finite, outer step (3.9). compress is beside our compress, which entropy-codes where the original
packs; `encode` is ours with the payload and its digest, aggregate with the state hash: see `bench codec`.
Beside them `short`, which the original is not: the residual from the indices at hand with a plain scatter, no
fingerprint, no look for what is not finite. Ours are payloads of round 30 of eight peers: with AdamW's first steps, all
about as large, the guesses of the selection let too many through. The tensors are those of
configs/presets/bench-codec.yaml. Needs PyTorch (pip install torch), so run it with the Python of an environment that
has it.

usage: tools/peers/codec_torch.py [--covenant build/cpu/bin/covenant] [--threads 1] [--turns 5] [--peers 8] [--rounds 31]
prints one JSON object: medians of parameters a second by time and by processor time, and the ratios of ours to PyTorch's.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

import torch

EDGE, TOPK, BINS, RANGE, DECAY, ALPHA = 64, 64, 4, 6.0, 0.95, 0.4
PRESET = "configs/presets/bench-codec.yaml"


def shapes():
    """Tensors of the preset: dim 1024, 2 layers, 8 of 16 heads for keys, ffn 2816, vocabulary 4096, tied."""
    layer = [(1024, 1024), (512, 1024), (512, 1024), (1024, 1024), (2816, 1024), (2816, 1024), (1024, 2816), (1024,), (1024,)]
    return [(4096, 1024)] + 2 * layer + [(1024,)]


def split(n):
    return next(d for d in range(min(EDGE, n), 0, -1) if n % d == 0)


def chunk(x):
    """[R, C] -> [R/h, C/w, h*w]; [n] -> [n/w, w] (protocol 3.4)."""
    if x.dim() == 1:
        return x.view(-1, split(x.shape[0]))
    h, w = split(x.shape[0]), split(x.shape[1])
    y, c = x.shape[0] // h, x.shape[1] // w
    return x.view(y, h, c, w).transpose(1, 2).reshape(y, c, h * w)


def unchunk(c, shape):
    if len(shape) == 1:
        return c.reshape(shape)
    h, w = split(shape[0]), split(shape[1])
    return c.view(shape[0] // h, shape[1] // w, h, w).transpose(1, 2).reshape(shape)


def pack12(index):
    pair = index.reshape(-1, 2)
    a, b = pair[:, 0], pair[:, 1]
    return torch.stack((a & 255, (a >> 8) | ((b & 15) << 4), b >> 4), dim=1).to(torch.uint8).view(-1)


def unpack12(packed, shape):
    t = packed.view(-1, 3).to(torch.int64)
    a = t[:, 0] | ((t[:, 1] & 15) << 8)
    b = (t[:, 1] >> 4) | (t[:, 2] << 4)
    return torch.stack((a, b), dim=1).view(shape)


def quantise(v):
    shift = v.mean()
    centred = v - shift
    sigma = centred.norm() / (v.numel() - 1) ** 0.5
    scale = float(RANGE * sigma / BINS)
    if not (scale > 0 and scale < float("inf")):
        scale = 1.0
    code = (centred / scale + BINS // 2).round().clamp(0, BINS - 1).to(torch.uint8)
    flat = code.view(-1).long()
    sums = torch.zeros(BINS).scatter_add_(0, flat, centred.reshape(-1))
    counts = torch.zeros(BINS).scatter_add_(0, flat, torch.ones(flat.numel()))
    lookup = torch.where(counts > 0, sums / counts, torch.zeros(BINS))
    return code, shift, lookup


def dequantise(code, shift, lookup):
    return lookup[code.long()] + shift


def scatter_mean(like, index, value):
    """Dense chunks: at each position the mean of what was sent for it."""
    return torch.zeros(like).scatter_reduce_(-1, index, value, reduce="mean", include_self=False)


def compress(theta, theta_end, feedback, short=False):
    """One peer, all tensors; feedback moves. The payload: packed indices, codes, shift, lookup a tensor."""
    payload = []
    for t, end, e in zip(theta, theta_end, feedback):
        delta = t - end
        e.mul_(DECAY)
        e.add_(delta)
        c = chunk(e)
        k = min(TOPK, c.shape[-1])
        index = torch.topk(c.abs(), k=k, dim=-1, largest=True, sorted=False).indices
        value = torch.gather(c, -1, index)
        code, shift, lookup = quantise(value)
        packed = pack12(index)
        if short:
            sent = torch.zeros_like(c).scatter_(-1, index, dequantise(code, shift, lookup))
        else:
            sent = scatter_mean(c.shape, unpack12(packed, code.shape), dequantise(code, shift, lookup))
        e.sub_(unchunk(sent, e.shape))
        payload.append((packed, code, shift, lookup))
    return payload


def aggregate(theta, payloads, short=False):
    """Mean over senders with median-norm clip, and the outer step. Returns the fingerprint."""
    fingerprint = []
    for i, t in enumerate(theta):
        indices, values = [], []
        for p in payloads:
            packed, code, shift, lookup = p[i]
            indices.append(unpack12(packed, code.shape))
            values.append(dequantise(code, shift, lookup))
        norms = torch.stack([v.norm() for v in values])
        median = norms.sort().values[(len(values) - 1) // 2]
        values = [v * torch.clamp(median / (n + 1e-8), max=1.0) for v, n in zip(values, norms)]
        index, value = torch.cat(indices, dim=-1), torch.cat(values, dim=-1)
        direction = unchunk(scatter_mean(chunk(t).shape, index, value), t.shape)
        if not short:
            fingerprint.append((direction.norm().item(), direction.mean().item()))
            if not torch.isfinite(direction).all():
                continue
        t.sub_(direction, alpha=ALPHA)
    return fingerprint


def timed(work):
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - cpu


def covenant(args):
    line = [args.covenant, "bench", "codec", "-c", PRESET, "--json", "--reps", "5", "--rounds", str(args.rounds),
            "--threads", str(args.threads), f"run.peers={args.peers}"] + args.setting
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(line)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--covenant", default="build/cpu/bin/covenant")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("setting", nargs="*", help="key=value for covenant, e.g. sync.quantizer=sign1")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    theta = [0.02 * torch.randn(s) for s in shapes()]
    n = sum(t.numel() for t in theta)
    feedback = [torch.zeros_like(t) for t in theta]
    payloads = []
    for _ in range(args.peers):
        end = [t - 1e-3 * torch.randn_like(t) for t in theta]
        payloads.append(compress(theta, end, feedback))
    compress(theta, end, feedback)  # warm
    aggregate(theta, payloads)
    ours, peer = {}, {}
    for turn in range(args.turns):
        row = covenant(args)
        if row["params"] != n:
            sys.exit(f"{PRESET} has {row['params']} parameters, the tensors here {n}: shapes() is out of date")
        for key in ("compress_params_per_s", "encode_params_per_s", "aggregate_params_per_s", "encode_params_per_cpu_s",
                    "aggregate_params_per_cpu_s", "encode_of_bound", "encode_of_bound_cpu"):
            ours.setdefault(key, []).append(row[key])
        for _ in range(3):
            for prefix, short in (("", False), ("short_", True)):
                _, wall, cpu = timed(lambda: compress(theta, end, feedback, short))
                peer.setdefault(prefix + "compress_params_per_s", []).append(n / wall)
                peer.setdefault(prefix + "encode_params_per_s", []).append(n / wall)
                peer.setdefault(prefix + "encode_params_per_cpu_s", []).append(n / cpu)
                _, wall, cpu = timed(lambda: aggregate(theta, payloads, short))
                peer.setdefault(prefix + "aggregate_params_per_s", []).append(n / wall)
                peer.setdefault(prefix + "aggregate_params_per_cpu_s", []).append(n / cpu)
        print(f"turn {turn + 1}/{args.turns}", file=sys.stderr)
    out = {"torch": torch.__version__, "threads": args.threads, "peers": args.peers, "params": n}
    for key, values in ours.items():
        out[key] = statistics.median(values)
    for key, values in peer.items():
        out["torch_" + key] = statistics.median(values)
        name = key.replace("_params_per_s", "").replace("_params_per_cpu_s", "_cpu")
        out["ratio_" + name] = out[key.removeprefix("short_")] / out["torch_" + key]
    print(json.dumps({k: round(v, 4) if isinstance(v, float) and v < 1000 else round(v) if isinstance(v, float) else v
                      for k, v in out.items()}))


if __name__ == "__main__":
    main()
