#!/usr/bin/env python3
"""One optimiser step of PyTorch beside one of ours: same model, batch, arithmetic and number of threads, in turns.

usage: tools/peers/step_torch.py [-c FILE] [--covenant PROGRAM] [--threads N] [--reps N] [--steps N]
                                 [--dtypes fp32,bf16] [--modes eager,compile] [key=value]...

Needs PyTorch (a virtual environment with `pip install torch`) and, for torch.compile, a C++ compiler. Prints one JSON
object; what it is doing goes to stderr. Settings are those of `covenant bench step`: the model and the batch come from
`covenant config print`, so that both sides read the same file.

For each arithmetic every PyTorch variant (eager, compiled) is tried alone first, and the fastest is the one that is
measured: its steps and those of `covenant bench step --reps 1` alternate, each in a process of its own, and the ratio
is that of the medians. `ratio` > 1: ours is faster. `ratio_cpu` is the same by processor time, for a machine that other
work shares. Peak memory is VmHWM of either process after its steps (ours before the benchmark allocates operands for
its products), and ru_maxrss of the PyTorch process.

PyTorch does what its users do: nn.Linear without bias, F.rms_norm, scaled_dot_product_attention with is_causal,
F.cross_entropy over all logits in fp32, autocast for bf16, clip_grad_norm_, AdamW(fused=True), zero_grad(set_to_none).
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- the PyTorch side: a process that takes steps when told to ----

def build_model(torch, cfg):
    nn, F = torch.nn, torch.nn.functional
    D, H, K, L, V = cfg["dim"], cfg["heads"], cfg["kv_heads"], cfg["layers"], cfg["vocab"]
    E, eps = D // H, cfg["norm_eps"]

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(D))

        def forward(self, x):
            return F.rms_norm(x, (D,), self.weight.to(x.dtype), eps)

    def rotate(x, cos, sin):
        """Pairs (2i, 2i + 1), as the models this is about do."""
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).type_as(x)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.wq = nn.Linear(D, H * E, bias=False)
            self.wk = nn.Linear(D, K * E, bias=False)
            self.wv = nn.Linear(D, K * E, bias=False)
            self.wo = nn.Linear(H * E, D, bias=False)

        def forward(self, x, cos, sin):
            B, T, _ = x.shape
            q = rotate(self.wq(x).view(B, T, H, E), cos, sin).transpose(1, 2)
            k = rotate(self.wk(x).view(B, T, K, E), cos, sin).transpose(1, 2)
            v = self.wv(x).view(B, T, K, E).transpose(1, 2)
            if K != H:
                k, v = (t.repeat_interleave(H // K, dim=1) for t in (k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.wo(y.transpose(1, 2).reshape(B, T, H * E))

    class FeedForward(nn.Module):
        def __init__(self):
            super().__init__()
            self.w1 = nn.Linear(D, cfg["ffn"], bias=False)
            self.w2 = nn.Linear(cfg["ffn"], D, bias=False)
            self.w3 = nn.Linear(D, cfg["ffn"], bias=False)

        def forward(self, x):
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.feed_forward = Attention(), FeedForward()
            self.attention_norm, self.ffn_norm = Norm(), Norm()

        def forward(self, x, cos, sin):
            x = x + self.attention(self.attention_norm(x), cos, sin)
            return x + self.feed_forward(self.ffn_norm(x))

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok_embeddings = nn.Embedding(V, D)
            self.layers = nn.ModuleList(Layer() for _ in range(L))
            self.norm = Norm()
            self.output = nn.Linear(D, V, bias=False)
            if cfg["tied"]:
                self.output.weight = self.tok_embeddings.weight
            angle = torch.outer(torch.arange(cfg["seq_len"]).float(),
                                cfg["rope_theta"] ** (-torch.arange(0, E, 2).float() / E))
            self.register_buffer("cos", angle.cos()[:, None, :])
            self.register_buffer("sin", angle.sin()[:, None, :])
            for p in self.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.02)

        def forward(self, tokens, targets):
            x = self.tok_embeddings(tokens)
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            logits = self.output(self.norm(x))
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    torch.manual_seed(42)
    return Llama()


def status_bytes(key):
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def worker(job):
    """Reads a number of steps a line from stdin, takes them, answers with a line of JSON."""
    import torch

    cfg = job["config"]
    torch.set_num_threads(job["threads"])
    model = build_model(torch, cfg)
    parameters = [p for p in model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    forward = torch.compile(model) if job["mode"] == "compile" else model
    micro, n_micro = cfg["micro_batch_seqs"], cfg["batch_seqs"] // cfg["micro_batch_seqs"]
    samples = torch.randint(0, min(cfg["vocab"], 256), (cfg["batch_seqs"] * 8, cfg["seq_len"] + 1))

    def step(i):
        first = i * cfg["batch_seqs"] % len(samples)
        total = 0.0
        for m in range(n_micro):
            part = samples[first + m * micro:first + (m + 1) * micro]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=job["dtype"] == "bf16"):
                loss = forward(part[:, :-1].contiguous(), part[:, 1:].contiguous()) / n_micro
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    losses, taken = [], 0
    for line in sys.stdin:
        n = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(n):
            losses.append(step(taken))
            taken += 1
        answer = {"step_s": (time.perf_counter() - wall) / n, "step_cpu_s": (time.process_time() - cpu) / n,
                  "peak_resident_bytes": status_bytes("VmHWM"),
                  "ru_maxrss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                  "params": sum(p.numel() for p in parameters), "first_loss": losses[0], "last_loss": losses[-1],
                  "version": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability()}
        print(json.dumps(answer), flush=True)


class Torch:
    """A worker process; `steps(n)` takes n optimiser steps in it."""

    def __init__(self, config, threads, dtype, mode):
        self.dtype, self.mode = dtype, mode
        job = {"config": config, "threads": threads, "dtype": dtype, "mode": mode}
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--worker", json.dumps(job)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def steps(self, n):
        self.process.stdin.write("%d\n" % n)
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("PyTorch %s %s ended with %s" % (self.dtype, self.mode, self.process.wait()))
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- our side ----

def read_config(covenant, settings):
    """The resolved settings, from lines "model.dim   384   FILE:12"."""
    text = subprocess.run([covenant, "config", "print"] + settings, check=True, stdout=subprocess.PIPE,
                          text=True).stdout
    value = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2:
            value[words[0]] = words[1]
    ints = {k: int(value["model." + k]) for k in ("vocab", "dim", "layers", "heads", "kv_heads", "ffn", "seq_len")}
    batch = {k: int(value["data." + k]) for k in ("batch_seqs", "micro_batch_seqs")}
    floats = {k: float(value["model." + k]) for k in ("rope_theta", "norm_eps")}
    if ints["vocab"] == 0:
        sys.exit("model.vocab is 0 (as the data say); name one, as the presets do")
    return dict(ints, **batch, **floats, tied=value["model.tied"] == "true")


def our_steps(args, dtype, n):
    """One repetition of covenant bench step in a process of its own; None if it does not run in this arithmetic. A
    bench that other work disturbed so much that its own products fell behind ends with an error: it is repeated."""
    line = [args.covenant, "bench", "step", "--json", "--reps", "1", "--steps", str(n), "--threads", str(args.threads),
            "train.dtype=" + dtype] + args.settings
    for _ in range(5):
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0 or "no ceiling" not in done.stderr:
            break
        say("ours, %s: disturbed, once more" % dtype)
    if done.returncode != 0:
        say("ours, %s: %s" % (dtype, done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode))
        return None
    return json.loads(done.stdout)


# ---- the comparison ----

def choose(args, config, dtype):
    """The fastest variant by its second measurement alone (compiling and the allocator's first touch are in the
    first), and the figures of all."""
    seconds, best = {}, None
    for mode in args.modes:
        torch = Torch(config, args.threads, dtype, mode)
        try:
            torch.steps(1)
            seconds[mode] = min(torch.steps(args.steps)["step_cpu_s"] for _ in range(2))
            say("PyTorch %s %s: %.3g s of processor time a step" % (dtype, mode, seconds[mode]))
        except RuntimeError as error:
            say(str(error))
            continue
        finally:
            torch.close()
        if best is None or seconds[mode] < seconds[best]:
            best = mode
    return best, seconds


def compare(args, config, dtype):
    mode, tried = choose(args, config, dtype)
    if mode is None:
        return {"error": "no variant of PyTorch ran"}
    torch = Torch(config, args.threads, dtype, mode)
    torch.steps(1)
    ours, theirs = [], []
    for rep in range(args.reps):
        one = our_steps(args, dtype, args.steps)
        if one is None:
            torch.close()
            return {"error": "covenant bench step does not run in " + dtype, "torch_step_cpu_s_tried": tried}
        ours.append(one)
        theirs.append(torch.steps(args.steps))
        say("%s %d/%d: ours %.4g s, PyTorch %s %.4g s" % (dtype, rep + 1, args.reps, ours[-1]["step_s"], mode,
                                                          theirs[-1]["step_s"]))
    torch.close()
    if ours[0]["params"] != theirs[0]["params"]:
        sys.exit("the models differ: %d parameters, PyTorch %d" % (ours[0]["params"], theirs[0]["params"]))

    def median(runs, key):
        return statistics.median(r[key] for r in runs)

    flop = ours[0]["flop_per_token"] * ours[0]["tokens_per_step"]
    return {
        "ratio": median(theirs, "step_s") / median(ours, "step_s"),
        "ratio_cpu": median(theirs, "step_cpu_s") / median(ours, "step_cpu_s"),
        "ratio_of_rep": [t["step_s"] / o["step_s"] for o, t in zip(ours, theirs)],
        "ratio_cpu_of_rep": [t["step_cpu_s"] / o["step_cpu_s"] for o, t in zip(ours, theirs)],
        "ours_step_s": median(ours, "step_s"), "torch_step_s": median(theirs, "step_s"),
        "ours_step_cpu_s": median(ours, "step_cpu_s"), "torch_step_cpu_s": median(theirs, "step_cpu_s"),
        "ours_flops_per_s": flop / median(ours, "step_s"), "torch_flops_per_s": flop / median(theirs, "step_s"),
        "ours_dtype": ours[0]["dtype"], "torch_mode": mode, "torch_step_cpu_s_tried": tried,
        "ours_peak_resident_bytes": max(o["peak_resident_bytes"] for o in ours),
        "torch_peak_resident_bytes": max(t["peak_resident_bytes"] for t in theirs),
        "torch_ru_maxrss_bytes": max(t["ru_maxrss_bytes"] for t in theirs),
        "torch_first_loss": theirs[0]["first_loss"], "torch_last_loss": theirs[-1]["last_loss"],
        "torch_version": theirs[0]["version"], "torch_capability": theirs[0]["capability"],
        "params": ours[0]["params"], "tokens_per_step": ours[0]["tokens_per_step"],
        "flop_per_token": ours[0]["flop_per_token"], "commit": ours[0]["commit"], "cpu_model": ours[0]["cpu_model"],
    }


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--worker":
        worker(json.loads(sys.argv[2]))
        return
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-c", "--config", default=os.path.join(REPO, "configs/presets/bench-20m.yaml"), metavar="FILE")
    p.add_argument("--covenant", default=os.path.join(REPO, "build/cpu/bin/covenant"), metavar="PROGRAM")
    p.add_argument("--threads", type=int, default=1, metavar="N")
    p.add_argument("--reps", type=int, default=5, metavar="N", help="turns; medians are over these (5)")
    p.add_argument("--steps", type=int, default=1, metavar="N", help="optimiser steps of a turn (1)")
    p.add_argument("--dtypes", default="fp32,bf16", metavar="LIST")
    p.add_argument("--modes", default="eager,compile", metavar="LIST")
    p.add_argument("settings", nargs="*", metavar="key=value")
    args = p.parse_args()
    args.modes = args.modes.split(",")
    args.settings = ["-c", args.config] + args.settings
    config = read_config(args.covenant, args.settings)
    report = {"bench": "step_torch", "config": os.path.basename(args.config), "threads": args.threads,
              "reps": args.reps, "steps_per_rep": args.steps}
    for dtype in args.dtypes.split(","):
        report[dtype] = compare(args, config, dtype)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
