// SPDX-License-Identifier: Apache-2.0
// Measures Puna and llama.cpp on the same files, in turns (A B A B ...), each turn a fresh process with a warm-up of its own, and
// prints medians and ratios. $PUNA is the program; bench/compare/run starts this.
import {execFileSync} from "node:child_process";
import {readFileSync} from "node:fs";
import {basename, dirname, join} from "node:path";
import {fileURLToPath} from "node:url";
import {parseArgs} from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const {values: flags, positionals: models} = parseArgs({
  allowPositionals: true,
  options: {
    prompt: {type: "string", short: "p", default: "512"},
    decode: {type: "string", short: "n", default: "64"},
    threads: {type: "string", short: "t", default: "2"},
    repeats: {type: "string", short: "r", default: "5"},
    json: {type: "boolean", default: false},
  },
});
if (models.length === 0) {
  console.error("usage: bench/compare/run MODEL.gguf... [-p 512] [-n 64] [-t 2] [-r 5] [--json]");
  process.exit(2);
}

const engines = {
  puna: model => [process.env.PUNA, ["bench", model, "-p", flags.prompt, "-n", flags.decode, "-t", flags.threads, "-r", "1", "--json"]],
  llama_cpp: model => [process.execPath, [join(here, "llama_cpp.mjs"), model, flags.prompt, flags.decode, flags.threads]],
};
const figures = ["prefill_tps", "decode_tps", "peak_rss_bytes"];

// With the four pool threads that Node.js starts, llama.cpp is called from another one at each token, and decodes a third more slowly
// on two processors; with one it is as fast as when it is called from C.
const environment = {...process.env, UV_THREADPOOL_SIZE: "1"};

function measure(engine, model) {
  const output = execFileSync(...engines[engine](model), {encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], env: environment});
  return JSON.parse(output.trim().split("\n").at(-1));
}

function median(values) {
  const sorted = values.filter(value => value !== null).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

// {figure: {puna, llama_cpp, ratio, turns: {puna: [...], llama_cpp: [...]}}}
function compare(model) {
  const turns = {puna: [], llama_cpp: []};
  for (let turn = 0; turn < Number(flags.repeats); ++turn) {
    for (const engine of Object.keys(engines)) {
      turns[engine].push(measure(engine, model));
      console.error(`${basename(model)}  ${turn + 1} of ${flags.repeats}  ${engine}  ` +
        figures.map(figure => `${figure} ${turns[engine].at(-1)[figure]?.toPrecision(4) ?? "-"}`).join("  "));
    }
  }
  return Object.fromEntries(figures.map(figure => {
    const of_engine = engine => turns[engine].map(result => result[figure]);
    const [puna, llama_cpp] = [median(of_engine("puna")), median(of_engine("llama_cpp"))];
    return [figure, {puna, llama_cpp, ratio: puna !== null && llama_cpp !== null ? puna / llama_cpp : null,
      turns: {puna: of_engine("puna"), llama_cpp: of_engine("llama_cpp")}}];
  }));
}

function table(results) {
  const heads = [`prefill ${flags.prompt}`, "", "", `decode ${flags.decode}`, "", "", "memory MB", "", ""];
  const rows = [["", ...heads], ["model", ...Array(3).fill(["Puna", "llama.cpp", "ratio"]).flat()]];
  for (const [model, result] of Object.entries(results)) {
    const cells = figures.flatMap(figure => {
      const {puna, llama_cpp, ratio} = result[figure];
      const shown = value => value === null ? "-" : figure === "peak_rss_bytes" ? (value / 1e6).toFixed(0) : value.toFixed(2);
      return [shown(puna), shown(llama_cpp), ratio === null ? "-" : ratio.toFixed(3)];
    });
    rows.push([model, ...cells]);
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map(row => row[column].length)));
  return rows.map(row => row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column])).join("  "))
    .join("\n");
}

const results = {};
for (const model of models) results[basename(model)] = compare(model);
const version = JSON.parse(readFileSync(join(here, "node_modules/node-llama-cpp/package.json"), "utf8")).version;
if (flags.json) {
  console.log(JSON.stringify({node_llama_cpp: version, threads: Number(flags.threads), prompt_tokens: Number(flags.prompt),
    decode_tokens: Number(flags.decode), repeats: Number(flags.repeats), results}));
} else {
  console.log(`Tokens per second with ${flags.threads} threads, medians of ${flags.repeats} turns; llama.cpp of node-llama-cpp ${version}\n`);
  console.log(table(results));
}
