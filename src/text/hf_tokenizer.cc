// SPDX-License-Identifier: Apache-2.0
// tokenizer.json of Hugging Face `tokenizers`, for byte-level BPE. Whatever would change ids and is not implemented here (another
// pre-tokenizer, a normalizer, stripping added tokens) is refused by name, never ignored.
#include <algorithm>
#include <array>
#include <cstdint>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "text/byte_bpe.h"
#include "text/json_reader.h"

namespace puna {
namespace {

using Members = std::map<std::string, std::string_view, std::less<>>;

[[noreturn]] void bad_json(const JsonReader& reader, const std::string& where) {
  fail(ErrorKind::kBadInput, where, "not valid JSON at byte {}: the download is damaged", reader.position());
}

// The members of an object as slices of its text.
Members members_of(std::string_view text, const std::string& where) {
  JsonReader reader(text);
  Members members;
  if (!reader.take('{')) bad_json(reader, where);
  bool first = true, ok = true;
  std::string_view key, value;
  while (reader.next_key(first, key, ok)) {
    std::string name(key);
    if (!reader.skip(value)) bad_json(reader, where);
    members[std::move(name)] = value;
  }
  if (!ok) bad_json(reader, where);
  return members;
}

Json member(const Members& members, std::string_view key, const std::string& where) {
  const auto at = members.find(key);
  return at == members.end() ? Json() : parse_json(at->second, where);
}

struct AddedToken {
  std::string name;
  std::int64_t id = 0;
  bool special = false;
};

std::vector<AddedToken> read_added(const Json& list, const std::string& where) {
  std::vector<AddedToken> added;
  if (list.is_null()) return added;
  if (!list.is_array()) fail(ErrorKind::kBadInput, where, "\"added_tokens\" is {}, expected an array", list.type_name());
  for (const Json& entry : list) {
    AddedToken token{json_at<std::string>(entry, "content", where), json_at<std::int64_t>(entry, "id", where),
                     json_or<bool>(entry, "special", false, where)};
    for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
      if (json_or<bool>(entry, flag, false, where)) {
        fail(ErrorKind::kUnsupported, where, "the added token \"{}\" has {} set, which is not supported", token.name, flag);
      }
    }
    if (token.name.empty()) fail(ErrorKind::kBadInput, where, "the added token {} has no content", token.id);
    added.push_back(std::move(token));
  }
  return added;
}

bool is_null_or_empty(const Json& value) {
  return value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty());
}

// Everything of the model but vocab and merges. Returns ignore_merges.
bool check_model(const Members& model, const std::string& where) {
  const Json type = member(model, "type", where);
  if (type != "BPE" && !type.is_null()) {
    fail(ErrorKind::kUnsupported, where, "a tokenizer of type {}, expected BPE: use the tokenizer.model beside it", type.dump());
  }
  if (member(model, "byte_fallback", where) == true) {
    fail(ErrorKind::kUnsupported, where,
         "a SentencePiece vocabulary written as JSON (byte_fallback): use the tokenizer.model beside it");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix", "dropout"}) {
    const Json value = member(model, key, where);
    if (!is_null_or_empty(value))
      fail(ErrorKind::kUnsupported, where, "the BPE option {} = {} is not supported", key, value.dump());
  }
  return member(model, "ignore_merges", where) == true;
}

std::optional<SplitPattern> split_pattern_of(const Json& step) {
  if (!step.is_object() || step.value("type", "") != "Split" || step.value("behavior", "") != "Isolated" ||
      step.value("invert", false))
    return {};
  if (!step.contains("pattern") || !step["pattern"].is_object() || step["pattern"].value("Regex", "") != kLlama3Regex) return {};
  return SplitPattern::kLlama3;
}

bool is_byte_level(const Json& step, bool use_regex) {
  return step.is_object() && step.value("type", "") == "ByteLevel" && !step.value("add_prefix_space", true) &&
         step.value("use_regex", true) == use_regex;
}

// Llama 3: Sequence[Split(regex), ByteLevel(no regex)]. GPT-2: ByteLevel with its own regex.
SplitPattern read_pattern(const Json& pre, const std::string& where) try {
  if (is_byte_level(pre, true)) return SplitPattern::kGpt2;
  if (pre.is_object() && pre.value("type", "") == "Sequence" && pre.contains("pretokenizers") && pre["pretokenizers"].is_array()) {
    const Json& steps = pre["pretokenizers"];
    if (steps.size() == 2 && is_byte_level(steps[1], false)) {
      if (const auto pattern = split_pattern_of(steps[0])) return *pattern;
    }
    if (steps.size() == 1 && is_byte_level(steps[0], true)) return SplitPattern::kGpt2;
  }
  fail(ErrorKind::kUnsupported, where, "the pre_tokenizer {} is not supported, only those of Llama 3 and GPT-2 are",
       dump_json(pre).substr(0, 400));
} catch (const Json::exception& error) {
  fail(ErrorKind::kBadInput, where, "the pre_tokenizer is malformed: {}", error.what());
}

struct Vocabulary {
  std::vector<std::pair<std::string, std::uint32_t>> entries;  // as written, in the byte alphabet
  std::uint32_t size = 0;                                      // highest id + 1, of added tokens too
};

// An id beyond the number of bytes of the file cannot be one of a dense list: refusing it bounds the tables.
std::uint32_t checked_id(std::int64_t id, std::string_view name, std::size_t file_bytes, const std::string& where) {
  if (id < 0 || static_cast<std::uint64_t>(id) >= std::min<std::size_t>(file_bytes, BpeMerges::kMaxIds)) {
    fail(ErrorKind::kBadInput, where, "the token \"{}\" has the id {}, out of range", name, id);
  }
  return static_cast<std::uint32_t>(id);
}

Vocabulary read_vocabulary(std::string_view text, std::size_t file_bytes, const std::string& where) {
  Vocabulary vocabulary;
  JsonReader reader(text);
  if (!reader.take('{')) fail(ErrorKind::kBadInput, where, "\"vocab\" is not an object of tokens and ids");
  bool first = true, ok = true;
  std::string_view key;
  while (reader.next_key(first, key, ok)) {
    std::string name(key);
    std::int64_t id = 0;
    if (!reader.integer(id)) fail(ErrorKind::kBadInput, where, "the token \"{}\" has no whole number as its id", name);
    const std::uint32_t checked = checked_id(id, name, file_bytes, where);
    vocabulary.size = std::max(vocabulary.size, checked + 1);
    vocabulary.entries.emplace_back(std::move(name), checked);
  }
  if (!ok) bad_json(reader, where);
  return vocabulary;
}

// Fills pieces: vocabulary entries as bytes, added tokens as the text they are.
PieceTable build_pieces(const Vocabulary& vocabulary, const std::vector<AddedToken>& added, const std::string& where) {
  std::vector<const std::string*> names(vocabulary.size, nullptr);  // [V]
  std::vector<bool> is_added(vocabulary.size, false);
  for (const AddedToken& token : added) {
    names[static_cast<std::size_t>(token.id)] = &token.name;
    is_added[static_cast<std::size_t>(token.id)] = true;
  }
  for (const auto& [name, id] : vocabulary.entries) {
    if (names[id] != nullptr && !is_added[id])
      fail(ErrorKind::kBadInput, where, "the id {} belongs to \"{}\" and to \"{}\"", id, *names[id], name);
    if (!is_added[id]) names[id] = &name;
  }
  PieceTable pieces(vocabulary.size);
  std::string bytes;
  for (std::uint32_t id = 0; id < vocabulary.size; ++id) {
    if (names[id] == nullptr || is_added[id]) {
      pieces.add(id, names[id] == nullptr ? std::string_view() : std::string_view(*names[id]), false);
      continue;
    }
    bytes.clear();
    if (!append_alphabet_bytes(*names[id], bytes)) {
      fail(ErrorKind::kBadInput, where, "the token \"{}\" is not written in the byte-level alphabet", *names[id]);
    }
    if (!pieces.add(id, bytes)) fail(ErrorKind::kBadInput, where, "the token {} has the text of an earlier one, or none", id);
  }
  return pieces;
}

// One merge, "Ġ t" or ["Ġ", "t"], as two views.
bool read_merge(JsonReader& reader, std::array<std::string, 2>& sides) {
  std::string_view text;
  if (reader.peek() == '[') {
    bool first = true, ok = true;
    reader.take('[');
    for (std::string& side : sides) {
      if (!reader.next_item(first, ok) || !reader.string(text)) return false;
      side = text;
    }
    return reader.take(']');
  }
  if (!reader.string(text)) return false;
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos) return false;
  sides[0] = text.substr(0, space);
  sides[1] = text.substr(space + 1);
  return true;
}

std::vector<BpeRule> read_merges(std::string_view text, const PieceTable& pieces, const std::string& where) {
  std::vector<BpeRule> rules;
  JsonReader reader(text);
  if (!reader.take('[')) fail(ErrorKind::kBadInput, where, "\"merges\" is not an array");
  bool first = true, ok = true;
  std::array<std::string, 2> sides;
  while (reader.next_item(first, ok)) {
    if (!read_merge(reader, sides)) {
      fail(ErrorKind::kBadInput, where, "merge {} is not two tokens: the file is damaged", rules.size());
    }
    rules.push_back(alphabet_rule(sides[0], sides[1], rules.size(), pieces, where));
  }
  if (!ok) bad_json(reader, where);
  return rules;
}

// A TemplateProcessing post-processor that puts a special token in front of a single text: that is what "adds bos" means.
std::optional<std::string> template_start(const Json& processor) {
  if (!processor.is_object()) return {};
  const std::string type = processor.value("type", "");
  if (type == "Sequence" && processor.contains("processors") && processor["processors"].is_array()) {
    for (const Json& step : processor["processors"]) {
      if (step.value("type", "") == "Sequence") continue;  // one level, as the library writes them
      if (auto start = template_start(step)) return start;
    }
  }
  if (type != "TemplateProcessing" || !processor.contains("single") || !processor["single"].is_array() ||
      processor["single"].empty())
    return {};
  const Json& front = processor["single"][0];
  if (!front.is_object() || !front.contains("SpecialToken")) return {};
  return front["SpecialToken"].value("id", "");
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view bytes, const std::string& where) {
  const Members file = members_of(bytes, where);
  if (!file.contains("model")) fail(ErrorKind::kBadInput, where, "the key \"model\" is missing: not a tokenizer.json");
  const Members model = members_of(file.at("model"), where);
  const bool ignore_merges = check_model(model, where);
  const Json normalizer = member(file, "normalizer", where);
  if (!normalizer.is_null()) {
    fail(ErrorKind::kUnsupported, where, "the normalizer {} is not supported, expected none", dump_json(normalizer).substr(0, 400));
  }
  const SplitPattern pattern = read_pattern(member(file, "pre_tokenizer", where), where);
  if (!model.contains("vocab") || !model.contains("merges"))
    fail(ErrorKind::kBadInput, where, "\"model\" has no \"vocab\" or no \"merges\"");

  const std::vector<AddedToken> added = read_added(member(file, "added_tokens", where), where);
  Vocabulary vocabulary = read_vocabulary(model.at("vocab"), bytes.size(), where);
  ByteBpeVocabulary built;
  for (const AddedToken& token : added) {
    const std::uint32_t id = checked_id(token.id, token.name, bytes.size(), where);
    vocabulary.size = std::max(vocabulary.size, id + 1);
    (token.special ? built.specials : built.added).emplace_back(token.name, static_cast<Token>(id));
  }
  built.pieces = build_pieces(vocabulary, added, where);
  built.pattern = pattern;
  built.whole_pieces = ignore_merges;
  const std::vector<BpeRule> rules = read_merges(model.at("merges"), built.pieces, where);
  auto tokenizer = std::make_unique<ByteBpe>(std::move(built), rules, where);
  try {
    if (const auto start = template_start(member(file, "post_processor", where)))
      tokenizer->set_bos(tokenizer->special(*start), true);
  } catch (const Json::exception& error) {
    fail(ErrorKind::kBadInput, where, "the post_processor is malformed: {}", error.what());
  }
  if (!tokenizer->bos()) tokenizer->set_bos(std::nullopt, false);
  return tokenizer;
}

}  // namespace puna
