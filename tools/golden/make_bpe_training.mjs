// SPDX-License-Identifier: Apache-2.0
// Golden merges of byte-level BPE training, from Hugging Face's own trainer (npm package `tokenizers`, its Rust core, 0.23.2).
//   npm install tokenizers && node make_bpe_training.mjs <shared data folder> <output folder>
// Writes bpe_training.json: corpora with all their merges, and files of the data folder with the number of merges and their SHA-256.
// The trainer's defaults hold: 30,000 tokens, pairs down to a count of one, and every line, with its end, a text of its own.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
const { Tokenizer } = createRequire(path.join(process.cwd(), "package.json"))("tokenizers");

const [data, out] = process.argv.slice(2);
const regex =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const untrained = JSON.stringify({
  version: "1.0", truncation: null, padding: null, added_tokens: [], normalizer: null, post_processor: null, decoder: null,
  pre_tokenizer: { type: "Sequence", pretokenizers: [
    { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false },
    { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false }] },
  model: { type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab: {}, merges: [] },
});
const folder = mkdtempSync(path.join(os.tmpdir(), "bpe-"));

function train(file) {
  const tokenizer = Tokenizer.fromString(untrained);
  tokenizer.train([file]);
  const saved = path.join(folder, "trained.json");
  tokenizer.save(saved);
  return JSON.parse(readFileSync(saved, "utf8")).model.merges.map((merge) => (Array.isArray(merge) ? merge.join(" ") : merge));
}

// Words over a few letters: nearly every count is shared by many pairs, and runs of one letter are everywhere.
function tangle(letters, words, longest, seed) {
  let state = seed;
  const draw = (n) => (state = (Math.imul(state, 1103515245) + 12345) >>> 0, (state >>> 16) % n);
  return Array.from({ length: words }, () => Array.from({ length: 1 + draw(longest) }, () => letters[draw(letters.length)]).join("")).join(" ");
}

const corpora = {
  empty: "",
  one_word: "llama",
  one_letter: "a",
  ties: "ab cd ef gh ij kl\nba dc fe hg ji lk\nzy xw vu zy xw vu",
  runs: "aaaaaaa aaaa aaaaa aaa\nbbbb  bbb    bb\n\n\n\n!!!!!!!! !!!! ====== ====\n" + "\u00e9".repeat(23),
  english: readFileSync(path.join(data, "books/en_alice.txt"), "utf8").slice(2000, 6000),
  multilingual: "Das Lama lebt in den Bergen, das Gras ist kurz.\nEl llama vive en las montañas y come hierba.\nЛама живёт высоко в горах, где трава короткая.\n美洲驼生活在高山上，那里的草很短。\nリャマは草の短い高い山に住んでいます。\nलामा ऊँचे पहाड़ों में रहता है, जहाँ घास छोटी होती है।\nลามาอาศัยอยู่บนภูเขาสูงที่หญ้าสั้น\n🦙🦙🦙 👩‍👩‍👧‍👦 🦙 e\u0301e\u0301 x\u0323\u0307\nالخريطة 123 ١٢٣٤ \u00a0\u3000 Ⅷ½\n",
  white_space: "if x:\n\treturn 1\r\n\r\n    else:\r\n        return  2   \n \n  \n\t\t\nI'LL we've he's 'tis DON'T it\u2019s '\u017f  12345678 1,000,000\n",
  tangle_two: tangle("ab", 300, 12, 1),
  tangle_three: tangle("abc", 400, 9, 2),
  tangle_wide: tangle(["é", "ê", "x", "y", "🦙", "'", "s"], 300, 7, 3),
};
const files = ["books/en_alice.txt", "books/de_verwandlung.txt", "books/pt_lusiadas.txt", "udhr/udhr_hin.txt", "udhr/udhr_tha.txt"];

const golden = { corpora: [], files: [] };
for (const [name, text] of Object.entries(corpora)) {
  const file = path.join(folder, "corpus.txt");
  writeFileSync(file, text);
  golden.corpora.push({ name, text, merges: train(file) });
}
for (const name of files) {
  const merges = train(path.join(data, name));
  golden.files.push({ file: name, merges: merges.length, sha256: createHash("sha256").update(merges.join("\n")).digest("hex") });
}
writeFileSync(path.join(out, "bpe_training.json"), JSON.stringify(golden) + "\n");
