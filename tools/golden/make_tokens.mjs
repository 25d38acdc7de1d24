// SPDX-License-Identifier: Apache-2.0
// Golden token ids of Llama 3's vocabulary, made by tiktoken itself (npm package `tiktoken`, its Rust core as WebAssembly).
//   npm install tiktoken && node make_tokens.mjs <shared data folder> <output folder>
// Writes tokens.jsonl (text, ids) and book_tokens.json (per file: number of ids and SHA-256 of them as little-endian int32).
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
const { Tiktoken } = createRequire(path.join(process.cwd(), "package.json"))("tiktoken");

const [data, out] = process.argv.slice(2);
const pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
// The package's own rank format: one line of "! first-rank token token ...".
const lines = readFileSync(path.join(data, "llama3_tokenizer/tokenizer.model"), "utf8").trim().split("\n");
const ranks = "! 0 " + lines.map((line) => line.split(" ")[0]).join(" ");
const tokenizer = new Tiktoken(ranks, {}, pattern);
const encode = (text) => Array.from(tokenizer.encode_ordinary(text));

// A counter-based generator, so that the texts are the same on every run.
let state = 12345n;
const next = (n) => {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
  return Number((state >> 33n) % BigInt(n));
};
const spaces = [" ", "  ", "\t", "\n", "\r", "\r\n", "\u000b", "\u000c", "\u0085", "\u00a0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u180e", "\u200b", "\ufeff"];
const alphabet = ["a", "B", "é", "ß", "ſ", "K", "'", "’", "s", "T", "re", "LL", "d", "1", "23", "٣", "²", "Ⅷ", "½", "中", "文", "が", "ｶ", "한", "ไ", "ท", "्", "क", "\u0301", "ʼ", "ǅ", "𝔘", "𝟘", "😀", "👩‍👩‍👧", "🇩🇪", "-", "_", ".", "...", "!?", "{", "}", "<|", "|>", "\\", "$", "€", "\u0000", "\u0007", "\ue000", "\u{10ffff}", "\u{e0041}", ...spaces];
const random_text = () => Array.from({ length: 1 + next(60) }, () => alphabet[next(alphabet.length)]).join("");
const random_code_point = () => {
  const code = next(0x110000);
  return code >= 0xd800 && code < 0xe000 ? "x" : String.fromCodePoint(code);
};

const texts = [
  "", " ", "  ", "\n", "\r\n", " \n", "\n ", "a", "This is a test sentence.", "Hello, world!", "hello  world   again",
  "The quick brown fox jumps over the lazy dog.", "<|begin_of_text|>user <|eot_id|><|start_header_id|>", "I'll we'VE THEY'RE don't it'S 'Tis 'ſ 'sample ''s rock'n'roll",
  "1 12 123 1234 12345 3.14159 1,000,000 0x7fff 1e-10 12345678901234567890", "    def f(x):\n        return x ** 2  # square\n\n\n    class A:\n\tpass\n",
  "#include <vector>\r\nint main() { return a[i]->b += 0x1F; }\r\n", "SELECT * FROM t WHERE a <> 'b''c';", "https://example.org/a?b=c&d=%20#e", "\t\t\tx\t y \t",
  "Äpfel, Öl und Übermut: die Straße nach Düsseldorf.", "L'été, les élèves n'étaient pas là où l'on croyait.", "El niño comió piñas en Córdoba, ¿verdad? ¡Sí!",
  "Não há coração sem emoção.", "Perché non è così? Città, virtù, più.", "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता", "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน",
  "我们认为这些真理是不言而喻的。", "吾輩は猫である。名前はまだ無い。", "모든 인간은 태어날 때부터 자유로우며", "Все люди рождаются свободными и равными", "يولد جميع الناس أحرارا متساوين", "כל בני האדם נולדו בני חורין",
  "😀😃 👩‍👩‍👧‍👦 🇩🇪🇫🇷 👍🏽", "e\u0301 n\u0303 a\u030a\u0323 Z\u0351\u036b\u0343", "x\u200by\u200dz\ufeffw", "ﬁ ﬂ ™ № ½ ⅷ ² ①", "a\u00a0b\u2003c\u3000d\u202fe", "trailing   ", "   leading", "\n\n\n\nx\n \n  \n",
  "a\n\n  b", "a \n\n  b", "!!!\n\n\n???\r\n\r\n", "...\n", " ...", "  ...", "$100 €200 £300", "a_b_c __init__ a-b", "'".repeat(20), " ".repeat(100) + "x", "\n".repeat(50), "a".repeat(300), "ab".repeat(200), "0".repeat(100), "=".repeat(200), "-".repeat(81) + "\n", "ő".repeat(120), "哈".repeat(90), " \u00a0 \u3000\u2003x",
  "Pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschifffahrtsgesellschaftskapitän", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Zürich\"}}", "x".repeat(47) + " " + "y".repeat(48) + " " + "z".repeat(49) + "q".repeat(50),
];
for (let i = 0; i < 150; ++i) texts.push(random_text());
for (let i = 0; i < 40; ++i) texts.push(Array.from({ length: 20 }, random_code_point).join(""));
for (let i = 0; i < 40; ++i) texts.push(Array.from({ length: 120 }, () => "etaoinshrdlu'ETAS"[next(17)]).join(""));
writeFileSync(path.join(out, "tokens.jsonl"), texts.map((text) => JSON.stringify({ text, ids: encode(text) })).join("\n") + "\n");

const files = ["books/en_moby_dick.txt", "books/en_alice.txt", "books/de_verwandlung.txt", "books/es_quijote.txt", "books/fr_candide.txt", "books/it_divina_commedia.txt", "books/pt_lusiadas.txt", "udhr/udhr_hin.txt", "udhr/udhr_tha.txt", "udhr/udhr_tha.xml", "udhr/udhr_deu_1996.xml"];
const digest = {};
for (const file of files) {
  const ids = encode(readFileSync(path.join(data, file), "utf8"));
  digest[file] = { count: ids.length, sha256: createHash("sha256").update(Buffer.from(Int32Array.from(ids).buffer)).digest("hex") };
}
const letters = encode("a".repeat(100000));  // one long piece
digest["a x 100000"] = { count: letters.length, sha256: createHash("sha256").update(Buffer.from(Int32Array.from(letters).buffer)).digest("hex") };
writeFileSync(path.join(out, "book_tokens.json"), JSON.stringify(digest, null, 1) + "\n");
