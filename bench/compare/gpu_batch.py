#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decoding of many sequences on one GPU: Puna beside Hugging Face transformers with torch.compile and a static cache, on the same
machine in the same run.

usage: gpu_batch.py PUNA [--batches 64,256] [--context N] [--steps N] [--shape 8b|1b] [--no-torch] [--device cuda]
Both have random BF16 weights of the shape, keys and values of 16 bits, `context` positions in every sequence, and choose each
sequence's likeliest token. Puna is `puna bench`, whose sequences are prefilled. transformers' cache is filled with random numbers
instead, its decoder layers are compiled as one region (torch.compile, fullgraph, static shapes: one compilation serves all layers,
which takes seconds where the whole model takes minutes), embedding and output likewise, and the whole step is one CUDA graph. That is
at least as fast as the whole model in mode "reduce-overhead", which is these kernels in such a graph. Where compilation fails or takes
longer than --compile-limit seconds, the step is the uncompiled layers in a CUDA graph, and the result says so.
Needs torch 2.11 and transformers 5.17 (for its StaticCache, which counts its length itself).
"""
import argparse
import gc
import json
import signal
import statistics
import subprocess
import sys
import time
import traceback

# layers, width, heads, heads of keys and values, width of a head, feed-forward width, vocabulary, output is the embedding
SHAPES = {"8b": (32, 4096, 32, 8, 128, 14336, 128256, False), "1b": (16, 2048, 32, 8, 64, 8192, 128256, True)}
ROUNDS = 3
START = time.time()


def say(text):
    print(f"[{time.time() - START:6.1f} s] {text}", flush=True)


def puna_rate(options, batch):
    """Tokens per second; None where it fails."""
    command = [options.puna, "bench", "--shape", options.shape, "--type", "bf16", "--device", options.device, "-p", "0",
               "-n", str(options.steps), "-b", str(batch), "--filled", str(options.context), "-r", str(ROUNDS), "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        say(f"puna failed: {result.stderr.strip()}")
        return None
    measured = json.loads(result.stdout)
    say(f"puna, {batch} sequences: {measured['decode_tps']:.0f} tokens/s (loaded in {measured['load_ms'] / 1000:.1f} s)")
    return measured["decode_tps"]


class Transformers:
    """LlamaForCausalLM on the GPU."""

    def __init__(self, shape):
        import torch
        import transformers
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        layers, width, heads, kv_heads, each, wide, vocabulary, tied = shape
        self.config = transformers.LlamaConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=each,
            intermediate_size=wide, vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=131072,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
        self.config._attn_implementation = "sdpa"
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("meta"):
            self.model = transformers.LlamaForCausalLM(self.config)
        torch.set_default_dtype(torch.float32)
        self.model.to_empty(device="cuda")
        self.model.tie_weights()
        self.model.model.rotary_emb = LlamaRotaryEmbedding(self.config).to("cuda")
        self.model.eval()
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if "norm" in name:
                    weight.fill_(1)
                else:
                    weight.normal_(0, 0.02)
        for layer in self.model.model.layers:  # each is given its own layer of the cache, so that all of them are the same code
            layer.self_attn.layer_idx = 0
        torch.cuda.synchronize()
        say(f"transformers {transformers.__version__}, torch {torch.__version__}, {torch.cuda.get_device_name()}: "
            f"{sum(weight.numel() for weight in self.model.parameters()) / 1e9:.2f} G weights")


class DecodeStep:
    """The next token of `batch` sequences behind `context` positions."""

    def __init__(self, network, batch, context, most_steps):
        import torch
        from transformers import StaticCache
        from transformers.cache_utils import Cache

        self.network, self.context = network, context
        self.length = (context + most_steps + 63) // 64 * 64
        config = network.config
        cache = StaticCache(config=config, max_cache_len=self.length)
        cache.early_initialization(batch, config.num_key_value_heads, config.head_dim, torch.bfloat16, torch.device("cuda"))
        for held in cache.layers:
            # New tensors: torch.compile takes those that the cache made for constants, and would compile every layer for its own.
            held.keys, held.values = torch.randn_like(held.keys), torch.randn_like(held.values)
            held.cumulative_length = torch.tensor(context, device="cuda")
        self.caches = [Cache(layers=[held]) for held in cache.layers]
        self.tokens = torch.randint(0, config.vocab_size, (batch, 1), device="cuda")
        self.position = torch.full((1, 1), context, device="cuda")
        self.mask = torch.empty(batch, 1, 1, self.length, dtype=torch.bool, device="cuda")
        self.places = torch.arange(self.length, device="cuda")

    def rewind(self):
        self.position.fill_(self.context)
        for cache in self.caches:
            cache.layers[0].cumulative_length.fill_(self.context)

    def functions(self, compiled):
        import torch

        model = self.network.model

        def begin(tokens, position, places, mask):
            mask.copy_((places <= position).expand(mask.shape))
            x = model.model.embed_tokens(tokens)
            return x, model.model.rotary_emb(x, position_ids=position)

        def through(layer, x, mask, rotary, position, cache):
            x = layer(x, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True, position_embeddings=rotary)
            return x if isinstance(x, torch.Tensor) else x[0]

        def end(x, tokens, position):
            tokens.copy_(model.lm_head(model.model.norm(x)).argmax(-1))
            position.add_(1)

        if not compiled:
            return begin, through, end
        return [torch.compile(each, fullgraph=True, dynamic=False) for each in (begin, through, end)]

    def rate(self, steps, compiled, limit):
        """Tokens per second: the median of ROUNDS times `steps` replays."""
        import torch

        begin, through, end = self.functions(compiled)

        def step():
            x, rotary = begin(self.tokens, self.position, self.places, self.mask)
            for layer, cache in zip(self.network.model.model.layers, self.caches):
                x = through(layer, x, self.mask, rotary, self.position, cache)
            end(x, self.tokens, self.position)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        started = time.time()
        signal.alarm(limit if compiled else 0)
        with torch.no_grad(), torch.cuda.stream(side):
            for _ in range(3):
                self.rewind()
                step()
        torch.cuda.synchronize()
        signal.alarm(0)
        say(f"  {'compiled and ' if compiled else ''}warmed up in {time.time() - started:.1f} s")
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            step()
        seconds = []
        for _ in range(1 + ROUNDS):
            self.rewind()
            torch.cuda.synchronize()
            started = time.time()
            for _ in range(steps):
                graph.replay()
            torch.cuda.synchronize()
            seconds.append(time.time() - started)
        return steps * len(self.tokens) / statistics.median(seconds[1:])


def transformers_rate(network, options, batch):
    """(tokens per second, how), or (None, why not)."""
    import torch

    for compiled in (True, False):
        how = "torch.compile in a CUDA graph" if compiled else "not compiled, in a CUDA graph"
        try:
            rate = DecodeStep(network, batch, options.context, options.steps).rate(options.steps, compiled, options.compile_limit)
            say(f"transformers, {batch} sequences: {rate:.0f} tokens/s ({how})")
            return rate, how
        except Exception as error:  # whatever it is, the other way and the other batch are still worth measuring
            signal.alarm(0)
            traceback.print_exc()
            say(f"transformers, {batch} sequences, {how}: failed: {type(error).__name__}")
        finally:
            gc.collect()
            torch.cuda.empty_cache()
    return None, "failed"


def too_slow(*_):
    raise TimeoutError("compilation took longer than --compile-limit")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("puna")
    parser.add_argument("--batches", default="64,256", type=lambda text: [int(each) for each in text.split(",")])
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--compile-limit", type=int, default=60, metavar="SECONDS")
    parser.add_argument("--device", default="cuda", help="Puna's; transformers runs on cuda")
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, too_slow)
    results = [{"batch": batch, "context": options.context, "puna_tps": puna_rate(options, batch)} for batch in options.batches]
    if not options.no_torch:
        network = Transformers(SHAPES[options.shape])
        for result in results:
            theirs, how = transformers_rate(network, options, result["batch"])
            result.update({"transformers_tps": theirs, "transformers": how})
            if theirs and result["puna_tps"]:
                result["ratio"] = result["puna_tps"] / theirs
                say(f"{result['batch']} sequences: {result['ratio']:.2f} times transformers")
    print(json.dumps({"shape": options.shape, "steps": options.steps, "results": results}), flush=True)
    sys.exit(any(result["puna_tps"] is None for result in results))


if __name__ == "__main__":
    main()
