// SPDX-License-Identifier: Apache-2.0
// Two small tokenizer.json files, trained here on the sentences below, and golden ids for them from Hugging Face's own
// implementation (npm package `@huggingface/tokenizers`).
//   npm install @huggingface/tokenizers && node make_tokenizer_json.mjs <output folder>
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
const { Tokenizer } = createRequire(path.join(process.cwd(), "package.json"))("@huggingface/tokenizers");

const out = process.argv[2];
const regex =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const corpus = `The llama lives high in the mountains, where the grass is short and the wind is long. The llama's wool is warm; the llamas' path is steep.
They walk together, they rest together, and they don't like to be alone. In the morning the herd goes up the hill; in the evening it comes down again.
Das Lama lebt in den Bergen, und das Gras ist kurz. El llama vive en las montañas y come hierba. 1234567890 123 456 789.
for (int i = 0; i < 10; ++i) { sum += values[i]; }  // the sum of the values
{"name": "get_weather", "parameters": {"city": "La Paz"}}
`.repeat(3);

const alphabet = [];  // byte -> printable character
for (let byte = 0, other = 0; byte < 256; ++byte) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  alphabet.push(String.fromCodePoint(printable ? byte : 256 + other++));
}
const written = (text) => Array.from(Buffer.from(text, "utf8"), (byte) => alphabet[byte]);

function train(pattern, count) {
  const words = Array.from(corpus.matchAll(new RegExp(pattern, "gu")), (match) => written(match[0]));
  const merges = [];
  while (merges.length < count) {
    const pairs = new Map();
    for (const word of words) for (let i = 0; i + 1 < word.length; ++i) pairs.set(`${word[i]} ${word[i + 1]}`, (pairs.get(`${word[i]} ${word[i + 1]}`) ?? 0) + 1);
    const best = Array.from(pairs).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0];
    if (!best || best[1] < 2) break;
    const [left, right] = best[0].split(" ");
    merges.push([left, right]);
    for (const word of words) for (let i = 0; i + 1 < word.length; ++i) if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right);
  }
  return merges;
}

function vocabulary(merges, extra) {
  const vocab = {};
  for (const piece of [...alphabet, ...merges.map(([left, right]) => left + right), ...extra]) if (!(piece in vocab)) vocab[piece] = Object.keys(vocab).length;
  return vocab;
}

const jsRegex = regex.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?:[sStTmMdD]|[rRvV][eE]|[lL][lL])");
const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const merges3 = train(jsRegex, 220), merges2 = train(gpt2, 180);
// "zebra" is in the vocabulary but no merge leads to it: `ignore_merges` finds it, plain BPE does not.
const vocab3 = vocabulary(merges3, ["zebra"]), vocab2 = vocabulary(merges2, ["zebra"]);
const added = (id, content, special) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special });
const first3 = Object.keys(vocab3).length, first2 = Object.keys(vocab2).length;
const byteLevel = (use_regex) => ({ type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex });

const llama3 = {
  version: "1.0", truncation: null, padding: null,
  added_tokens: [added(first3, "<|begin_of_text|>", true), added(first3 + 1, "<|eot_id|>", true), added(first3 + 2, "<|tool|>", false), added(first3 + 3, "<|tool|>!", false)],
  normalizer: null,
  pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false }, byteLevel(false)] },
  post_processor: { type: "Sequence", processors: [byteLevel(true), { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<|begin_of_text|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }], pair: [], special_tokens: { "<|begin_of_text|>": { id: "<|begin_of_text|>", ids: [first3], tokens: ["<|begin_of_text|>"] } } }] },
  decoder: byteLevel(true),
  model: { type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: true, vocab: vocab3, merges: merges3 },
};
const plain = {
  version: "1.0", truncation: null, padding: null, added_tokens: [added(first2, "<|endoftext|>", true)], normalizer: null, pre_tokenizer: byteLevel(true),
  post_processor: null, decoder: byteLevel(true),
  model: { type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: "", end_of_word_suffix: "", fuse_unk: false, byte_fallback: false, vocab: vocab2, merges: merges2.map((pair) => pair.join(" ")) },
};

const texts = ["", "The llama lives", "the llamas' wool isn't THEY'RE I'Ll", "zebra zebra", "1234567 12 3", "  two  spaces \n\n x\t", "montañas Übermut 中文 😀", "for (int i = 0; i < 3; ++i) { f(\"x\"); }\n",
  "<|tool|> and <|tool|>! and <|tool|", "wind".repeat(40), "the".repeat(60), "{\"name\": \"get_weather\"}", "together they rest", "\n\n\n a"];
const golden = [];
for (const [name, file] of [["llama3", llama3], ["gpt2", plain]]) {
  writeFileSync(path.join(out, `tokenizer_${name}.json`), JSON.stringify(file) + "\n");
  const tokenizer = new Tokenizer(file, {});
  for (const text of texts) golden.push({ file: name, text, ids: Array.from(tokenizer.encode(text, { add_special_tokens: false }).ids) });
}
writeFileSync(path.join(out, "tokenizer_json.jsonl"), golden.map((entry) => JSON.stringify(entry)).join("\n") + "\n");
