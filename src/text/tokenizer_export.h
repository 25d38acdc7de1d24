// SPDX-License-Identifier: Apache-2.0
// A tokenizer written again in another file's form: GGUF's lists, tokenizer.json, tiktoken ranks, a SentencePiece model. Each reads
// back to the same ids.
#pragma once

#include <optional>
#include <string>

#include "text/tokenizer.h"

namespace puna {

// Everything but `eos`, which is the end of text (<|end_of_text|>, </s>, else the first end token), comes from the tokenizer as it
// is. Merges that go by the rank of what they make are ordered as Hugging Face's converter orders them: by the made token, then by
// the left and the right side. Throws kUnsupported for byte-level BPE with Llama 3's pattern that does not take whole pieces
// (GGUF has no name for it that Puna reads), and for SentencePiece that does not write spaces as U+2581.
GgufVocabulary export_gguf_vocabulary(const Tokenizer& tokenizer, const std::string& where);

// tokenizer.json of a byte-level BPE vocabulary ("gpt2").
std::string tokenizer_json_text(const GgufVocabulary& vocabulary);

// Meta's tokenizer.model of Llama 3: base64 of the bytes, and the rank. nullopt where the file cannot stand for this tokenizer: it
// holds ids from 0 on, of which the last 256 are special, and joins by rank.
std::optional<std::string> tiktoken_text(const Tokenizer& tokenizer);

// SentencePiece's .model, a protocol buffer; nullopt for another kind of tokenizer.
std::optional<std::string> sentencepiece_model_text(const Tokenizer& tokenizer);

}  // namespace puna
