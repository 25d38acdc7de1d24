// SPDX-License-Identifier: Apache-2.0
// What llama.cpp continues with, greedily: node greedy.mjs MODEL.gguf TOKENS.json N prints {"tokens": [...]} as `puna run --json` does.
import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const [model_path, prompt_path, count] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, progressLogs: false, logLevel: "error", maxThreads: 1});
const model = await llama.loadModel({modelPath: model_path, gpuLayers: 0});
// Its default attention on CPUs rounds to F16, enough to turn a tie of two tokens.
const context = await model.createContext({
  sequences: 1, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32", threads: {ideal: 1, min: 1}});
const prompt = JSON.parse(readFileSync(prompt_path, "utf8")).tokens;
const tokens = [];
for await (const token of context.getSequence().evaluate(prompt, {temperature: 0})) {
  tokens.push(token);
  if (tokens.length === Number(count)) break;
}
console.log(JSON.stringify({tokens}));
process.exit(0);
