// SPDX-License-Identifier: Apache-2.0
// One measurement of llama.cpp through node-llama-cpp: prints {"prefill_tps", "decode_tps", ...} as one line of JSON.
// It counts as `puna bench` does: random token ids, the logits of the last token only, decoding from a context of one token; each
// after a warm-up. The binding's own share of a decoded token is in bench/compare/README.md.
import {getLlama} from "node-llama-cpp";

const [model_path, prompt_tokens, decode_tokens, threads] = [process.argv[2], ...process.argv.slice(3).map(Number)];

const llama = await getLlama({gpu: false, build: "never", skipDownload: true, progressLogs: false, logLevel: "error", maxThreads: threads});
const model = await llama.loadModel({modelPath: model_path, gpuLayers: 0});
const context = await model.createContext({
  contextSize: Math.max(prompt_tokens, decode_tokens) + 8, batchSize: 512, sequences: 1, threads: {ideal: threads, min: threads}});
const sequence = context.getSequence();
const vocabulary = model.fileInfo.metadata.llama?.vocab_size ?? model.fileInfo.metadata.tokenizer.ggml.tokens.length;

let state = 1;  // a linear congruence (Numerical Recipes): which tokens they are does not matter, only that they differ
function random_token() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state % vocabulary;
}

// Starts evaluating `tokens` on an empty context; the generator's first step decodes them and samples once.
async function evaluation(tokens) {
  await sequence.clearHistory();
  return sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true});
}

async function prefill_seconds() {
  const steps = await evaluation(Array.from({length: prompt_tokens}, random_token));
  const start = performance.now();
  await steps.next();
  const seconds = (performance.now() - start) / 1000;
  await steps.return();
  return seconds;
}

async function decode_seconds() {
  const steps = await evaluation([random_token()]);
  await steps.next();
  const start = performance.now();
  for (let t = 0; t < decode_tokens; ++t) await steps.next(random_token());
  const seconds = (performance.now() - start) / 1000;
  await steps.return();
  return seconds;
}

async function rate(tokens, run) {
  if (tokens === 0) return null;
  await run();
  return tokens / await run();
}

console.log(JSON.stringify({
  prefill_tps: await rate(prompt_tokens, prefill_seconds), decode_tps: await rate(decode_tokens, decode_seconds),
  peak_rss_bytes: process.resourceUsage().maxRSS * 1024, threads: context.currentThreads}));
process.exit(0);
