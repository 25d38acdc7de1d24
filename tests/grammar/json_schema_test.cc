// SPDX-License-Identifier: Apache-2.0
// JSON schemas: no value is accepted that a validator written apart refuses. The cases of golden/grammar/schema_cases.jsonl are
// written by hand, in the manner of the JSON-Schema-Test-Suite, and were checked with ajv: "valid" is accepted, "invalid" is not,
// and "narrower" satisfies the schema but is not how it is written here. PUNA_GRAMMAR_SAMPLES=1000 draws so many texts of each
// schema in golden/grammar/schemas.jsonl instead of a few, and prints how long compiling and masks took.
#include "grammar/json_schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "base/random.h"
#include "grammar/grammar_walk.h"
#include "grammar/schema_validator.h"
#include "shared_data.h"

namespace puna {
namespace {

const char* const kLlama3Tokenizer = "llama3_tokenizer/tokenizer.model";

std::vector<Json> read_lines(const std::string& name) {
  std::vector<Json> values;
  std::istringstream lines(read_text(golden(name)));
  for (std::string line; std::getline(lines, line);) values.push_back(parse_json(line, name));
  return values;
}

// As Python's json.dumps writes it.
std::string spaced(const Json& value) {
  if (!value.is_structured()) return dump_json(value);
  std::string text;
  for (const auto& [key, member] : value.items()) {
    if (!text.empty()) text += ", ";
    if (value.is_object()) text += dump_json(Json(key)) + ": ";
    text += spaced(member);
  }
  return value.is_object() ? "{" + text + "}" : "[" + text + "]";
}

std::vector<std::string> spellings(const Json& value) {
  return {dump_json(value), spaced(value), value.dump(2), value.dump(1, '\t')};
}

GrammarWalk walk_of(const Json& schema) { return GrammarWalk(json_schema_grammar(schema, "s")); }
GrammarWalk walk_of(const char* schema) { return walk_of(parse_json(schema, "s")); }

TEST(JsonSchema, AcceptsWhatIsValidAndNothingElse) {
  const std::vector<Json> cases = read_lines("grammar/schema_cases.jsonl");
  int valid = 0, invalid = 0;
  for (const Json& one : cases) {
    SCOPED_TRACE(dump_json(one["about"]) + " " + dump_json(one["schema"]));
    SchemaValidator validator(one["schema"]);
    GrammarWalk walk = walk_of(one["schema"]);
    for (const Json& value : one["valid"]) {
      EXPECT_TRUE(validator.valid(value)) << value;
      for (const std::string& text : spellings(value)) EXPECT_TRUE(walk.accepts(text)) << text;
      ++valid;
    }
    for (const Json& value : one["invalid"]) {
      EXPECT_FALSE(validator.valid(value)) << value;
      for (const std::string& text : spellings(value)) EXPECT_FALSE(walk.accepts(text)) << text;
      ++invalid;
    }
    for (const Json& value : one["narrower"]) {
      for (const std::string& text : spellings(value)) EXPECT_FALSE(walk.accepts(text)) << text;
    }
  }
  EXPECT_GT(valid, 240);
  EXPECT_GT(invalid, 270);
}

// All small values against all small schemas of the cases: wherever the grammar accepts, the validator does.
TEST(JsonSchema, AcceptsNoValueOfAnotherCase) {
  const std::vector<Json> cases = read_lines("grammar/schema_cases.jsonl");
  std::vector<Json> values;
  for (const Json& one : cases) {
    for (const char* list : {"valid", "invalid", "narrower"}) values.insert(values.end(), one[list].begin(), one[list].end());
  }
  int accepted = 0, compared = 0;
  for (const Json& one : cases) {
    SchemaValidator validator(one["schema"]);
    GrammarWalk walk = walk_of(one["schema"]);
    for (const Json& value : values) {
      const bool accepts = walk.accepts(dump_json(value));
      ASSERT_TRUE(!accepts || validator.valid(value)) << one["schema"] << " accepts " << value;
      accepted += accepts, ++compared;
    }
  }
  EXPECT_GT(accepted, 3000);
  EXPECT_GT(compared, 50'000);
}

TEST(JsonSchema, RefusesWhatItCannotFollowWithItsPlace) {
  const auto refused = [](const char* schema, const std::string& words, ErrorKind kind = ErrorKind::kUnsupported) {
    expect_error(kind, words, [&] { json_schema_grammar(parse_json(schema, "s"), "s.json"); });
  };
  refused(R"({"properties": {"a": {"not": {"type": "string"}}}})", "[s.json#/properties/a/not] \"not\" cannot be followed");
  refused(R"({"items": {"if": {}, "then": {}}})", "[s.json#/items/if] this keyword cannot be followed exactly");
  refused(R"({"type": "array", "uniqueItems": true})", "[s.json#/uniqueItems] that all items differ");
  for (const char* keyword : {"contains", "dependentSchemas", "dependentRequired", "dependencies", "$dynamicRef"})
    refused(("{\"allOf\": [{}, {\"" + std::string(keyword) + "\": {}}]}").c_str(),
            "[s.json#/allOf/1/" + std::string(keyword) + "] this");
  refused(R"({"unevaluatedProperties": false})", "[s.json#/unevaluatedProperties]");
  refused(R"({"unevaluatedItems": {"type": "string"}})", "[s.json#/unevaluatedItems]");
  refused(R"({"format": "regex"})", "[s.json#/format] the format \"regex\" cannot be followed: there are date, time,");
  refused(R"({"type": "integer", "multipleOf": 0.01})", "[s.json#/multipleOf] only multiples of whole numbers up to 1000");
  refused(R"({"multipleOf": 1001})", "[s.json#/multipleOf]");
  refused(R"({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]})", "[s.json#/allOf/1/multipleOf]");
  refused(R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "[s.json#/oneOf] 0 and 1 may hold at once");
  refused(R"({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]})", "[s.json#/oneOf] 0 and 1 may hold at once");
  refused(R"({"oneOf": [{"enum": [1, 2]}, {"const": 3}, {"enum": [4, 2.0]}]})", "[s.json#/oneOf] 0 and 2 may hold at once");
  refused(R"j({"pattern": "a(?=b)"})j", "[s.json#/pattern] character 2: look-ahead");
  refused(R"({"patternProperties": {"(a)\\1": {}}})", "[s.json#/patternProperties] character 4: back-references");
  refused(R"({"$ref": "other.json#/a"})", "[s.json#/$ref] \"other.json#/a\" leads to another document");
  refused(R"({"properties": {"a": {"$id": "x", "type": "string"}}})", "[s.json#/properties/a/$id] a document inside the document");
  refused(R"({"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2})",
          "[s.json#/minProperties] members that may");
  refused(R"({"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1})",
          "[s.json#/maxProperties] members that may");
  refused(R"({"type": "object", "minProperties": 2})", "[s.json#/minProperties]");
  refused(R"({"type": "object", "propertyNames": {"anyOf": [{"pattern": "a"}, {"pattern": "b"}]}})",
          "[s.json#/propertyNames] alternatives");
  refused(R"({"enum": [{"a": 1}], "required": ["a"]})", "[s.json#/enum] lists and objects beside keywords about their parts");
  refused(R"({"exclusiveMinimum": 0.1234567890123456})", "[s.json#/exclusiveMinimum]");
  refused(R"({"type": "string", "pattern": "^(a|bc)*$", "maxLength": 100000})", "needs more than 30000 states");
  std::string deep = "true";
  for (int i = 0; i < 70; ++i) deep = "{\"allOf\": [" + deep + "]}";
  refused(deep.c_str(), "lie in each other more than 64 deep");
  std::string wide = "{\"allOf\": [";
  for (int i = 0; i < 10; ++i) wide += std::string(i == 0 ? "" : ",") + R"({"anyOf": [{"minLength": 1}, {"maxLength": 9}]})";
  refused((wide + "]}").c_str(), "the combinations of anyOf and oneOf are more than 512");

  const auto bad = [&](const char* schema, const std::string& words) { refused(schema, words, ErrorKind::kBadInput); };
  bad(R"([])", "[s.json#] array is no schema");
  bad(R"({"items": 5})", "[s.json#/items] is 5, expected a schema");
  bad(R"({"items": [{}]})", "prefixItems");
  bad(R"({"type": "strin"})", "[s.json#/type] is \"strin\", expected null, boolean");
  bad(R"({"type": []})", "[s.json#/type]");
  bad(R"({"properties": {"a/b": {"maxLength": -1}}, "required": ["a/b"]})",
      "[s.json#/properties/a~1b/maxLength] is -1, expected a whole number");
  bad(R"({"minItems": 1.5})", "[s.json#/minItems]");
  bad(R"({"multipleOf": 0})", "[s.json#/multipleOf] is 0, expected a number above 0");
  bad(R"({"required": "a"})", "[s.json#/required]");
  bad(R"({"enum": []})", "[s.json#/enum]");
  bad(R"({"anyOf": []})", "[s.json#/anyOf]");
  bad(R"({"pattern": "("})", "[s.json#/pattern] character 1: this group is not closed");
  bad(R"({"minLenght": 3})", "[s.json#/minLenght] there is no such keyword: did you mean minLength?");
  bad(R"({"$ref": "#/$defs/a", "$defs": {}})", "[s.json#/$ref] \"#/$defs/a\" leads nowhere: there is no \"a\" in s.json#/$defs");
  bad(R"({"$ref": "#there"})", "[s.json#/$ref] there is no \"$anchor\": \"there\"");
  bad(R"({"$ref": "#"})", "refers to itself without anything in between");
  bad(R"({"anyOf": [{"type": "string"}, {"$ref": "#"}]})", "refers to itself without anything in between");
  bad("false", "[s.json] no text at all is allowed");
  bad(R"({"allOf": [{"type": "string"}, {"type": "integer"}]})", "[s.json] no text at all is allowed");
  bad(R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "[s.json] no text at all is allowed");
  bad(R"({"type": "integer", "minimum": 5, "maximum": 4})", "[s.json] no text at all is allowed");
}

// A few of these in a server's queue would hold its workers for years, minutes or seconds where compiling them went on to its end.
TEST(JsonSchema, RefusesWhatTakesTooManySteps) {
  const auto refused = [](const Json& schema) {
    expect_error(ErrorKind::kUnsupported, "following the schema takes more than 20000000 steps",
                 [&] { json_schema_grammar(schema, "s.json"); });
  };
  Json dead = {{"allOf", Json::array({{{"anyOf", {false, false}}}})}};  // 2^40 combinations, in none of which a value is allowed
  for (int i = 0; i < 40; ++i) dead["allOf"].push_back({{"anyOf", {Json::object(), Json::object()}}});
  refused(dead);
  refused({{"oneOf", {dead, {{"type", "null"}}}}});

  Json listed = Json::array(), options = Json::array();
  for (int i = 0; i < 30'000; ++i) listed.push_back(i);
  for (int i = 0; i < 200; ++i) options.push_back({{"$ref", "#/$defs/listed"}, {"minimum", i}, {"maximum", i}});
  refused({{"$defs", {{"listed", {{"enum", listed}}}}}, {"oneOf", options}});

  // Names are told apart by the letters in them: 2^14 sets, each an automaton of as many states.
  Json names = Json::object(), patterns = Json::array();
  for (char letter = 'a'; letter < 'o'; ++letter) names[std::string(1, letter)] = true;
  refused({{"patternProperties", names}});
  for (int i = 0; i < 30; ++i)
    patterns.push_back({{"pattern", "[a-d]*a[ab]{11}" + std::string(static_cast<std::size_t>(i), 'x') + "|z"}});
  refused({{"const", "z"}, {"allOf", patterns}});
}

TEST(JsonSchema, FollowsThousandsOfReferencesAndValues) {
  Json referring = {
      {"type", "object"}, {"properties", Json::object()}, {"$defs", {{"count", {{"$anchor", "x"}, {"type", "null"}}}}}};
  for (int i = 0; i < 12'000; ++i) referring["properties"][std::to_string(i)] = {{"$ref", "#x"}};
  GrammarWalk members = walk_of(referring);
  EXPECT_TRUE(members.accepts(R"({"11":null,"11999":null})"));
  EXPECT_FALSE(members.accepts(R"({"11":1})"));

  Json optional = {{"type", "object"}, {"properties", Json::object()}};  // as Pydantic writes members that may be null
  for (int i = 0; i < 5'000; ++i)
    optional["properties"][std::to_string(i)] = {{"anyOf", {{{"type", "boolean"}}, {{"type", "null"}}}}};
  EXPECT_TRUE(walk_of(optional).accepts(R"({"0":null,"4999":true})"));

  constexpr int kMany = 100'000;
  Json first = Json::array(), second = Json::array();
  for (int i = 0; i < kMany; ++i) {
    first.push_back(i);
    second.push_back(i + kMany - 0.5);
  }
  second.push_back(7.0);
  GrammarWalk both = walk_of({{"allOf", {{{"enum", first}}, {{"enum", second}}}}});
  EXPECT_TRUE(both.accepts("7.0"));
  EXPECT_FALSE(both.begins("9"));
  expect_error(ErrorKind::kUnsupported, "0 and 1 may hold at once", [&] {
    json_schema_grammar({{"oneOf", {{{"enum", first}}, {{"enum", second}}}}}, "s");
  });
}

TEST(JsonSchema, ComparesListedValuesAsJsonDoes) {
  const auto both = [](const char* a, const char* b) {
    return Json{{"allOf", {{{"enum", {parse_json(a, "s"), "else"}}}, {{"enum", {parse_json(b, "s"), "else"}}}}}};
  };
  const std::vector<std::pair<const char*, const char*>> same = {{"1", "1.0"},
                                                                 {"0", "-0.0"},
                                                                 {"100", "1e2"},
                                                                 {R"({"a": [1], "b": {}})", R"({"b": {}, "a": [1.0]})"},
                                                                 {R"(["a", 1])", R"(["\u0061", 1])"}};
  for (const auto& [a, b] : same) EXPECT_TRUE(walk_of(both(a, b)).accepts(dump_json(parse_json(b, "s")))) << a << " " << b;
  const std::vector<std::pair<const char*, const char*>> different = {{"1", "\"1\""},
                                                                      {"1", "-1"},
                                                                      {"10", "1"},
                                                                      {"[]", "{}"},
                                                                      {R"(["a,b"])", R"(["a","b"])"},
                                                                      {"null", "false"},
                                                                      {"9007199254740993", "9007199254740992"}};
  for (const auto& [a, b] : different) EXPECT_FALSE(walk_of(both(a, b)).accepts(dump_json(parse_json(b, "s")))) << a << " " << b;
}

// Where each part stands twice in the one that holds it, a walk that goes to it twice takes 2^60 steps.
TEST(JsonSchema, FollowsPatternsWithManyAnchors) {
  std::string ends, begins;
  for (int i = 0; i < 60; ++i) ends += "(?:a?|$)", begins += "(?:^|a?)";
  GrammarWalk ending = walk_of({{"type", "string"}, {"pattern", "^b" + ends + "$"}, {"maxLength", 61}});
  for (const char* text : {R"("b")", R"("baaa")"}) EXPECT_TRUE(ending.accepts(text)) << text;
  for (const char* text : {R"("a")", R"("bab")"}) EXPECT_FALSE(ending.accepts(text)) << text;
  GrammarWalk beginning = walk_of({{"type", "string"}, {"pattern", begins + "b$"}});
  EXPECT_TRUE(beginning.accepts(R"("aab")"));
  expect_error(ErrorKind::kBadInput, "no text at all is allowed", [&] {
    json_schema_grammar({{"type", "string"}, {"pattern", "^b" + ends.substr(0, 39 * 8) + "^$"}}, "s");
  });
}

TEST(JsonSchema, BoundsWhiteSpace) {
  GrammarWalk walk = walk_of(R"({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}})");
  for (const char* text :
       {"{\"a\":[1,2]}", "{ \"a\": [ 1, 2 ] }", "{\n  \"a\": [\n    1,\n    2\n  ]\n}", "{\n\t\"a\":\n\t\t[1]\n}", "{ }"})
    EXPECT_TRUE(walk.accepts(text)) << text;
  for (const char* text : {" {}", "{} ", "{  }", "{\n\n}", "{\"a\" :[]}", "{\"a\":[1 ,2]}", "{\r\n}", "{\n \t}"})
    EXPECT_FALSE(walk.accepts(text)) << text;
  EXPECT_TRUE(walk.accepts("{\n" + std::string(32, ' ') + "}"));
  EXPECT_FALSE(walk.begins("{\n" + std::string(33, ' ')));
  EXPECT_FALSE(walk.begins("{\n" + std::string(9, '\t')));
}

TEST(JsonSchema, SpellsStringsAndNumbers) {
  GrammarWalk any = walk_of(R"({"type": "string"})");
  for (const char* text : {R"("\u00e9\/\b")", R"("\ud83d\uDE00")", "\"\x7F\"", R"("\u0000")"})
    EXPECT_TRUE(any.accepts(text)) << text;
  for (const char* text :
       {R"("\ud83d")", R"("\ude00")", R"("\ud83d\u0041")", R"("\x41")", "\"\n\"", "\"\t\"", R"("\u12")", "\"\xFF\"", "'a'"})
    EXPECT_FALSE(any.accepts(text)) << text;
  GrammarWalk counted = walk_of(R"({"type": "string", "minLength": 2, "maxLength": 2})");
  EXPECT_TRUE(counted.accepts(R"("\ud83d\ude00\n")"));
  EXPECT_FALSE(counted.accepts(R"("\ud83d\ude00")"));
  GrammarWalk numbers = walk_of(R"({"type": "number"})");
  for (const char* text : {"0", "-0", "-1.50", "1E+2", "1e-99", "123456789012345", "0.123456789012345"})
    EXPECT_TRUE(numbers.accepts(text)) << text;
  for (const char* text : {"01", "+1", ".5", "1.", "1e", "1e100", "1234567890123456", "0x1", "NaN", "--1"})
    EXPECT_FALSE(numbers.accepts(text)) << text;
  GrammarWalk integers = walk_of(R"({"type": "integer"})");
  EXPECT_TRUE(integers.accepts("-123456789012345678"));
  for (const char* text : {"-0", "00", "1.0", "1e3", "1234567890123456789"}) EXPECT_FALSE(integers.accepts(text)) << text;
}

// A value that nests without end is held to what a reader of JSON takes, and can always be closed.
TEST(JsonSchema, NestsOnlyAsDeepAsItCanEnd) {
  for (
      const char* schema :
      {"{}", R"({"type": "array", "items": {"$ref": "#"}})",
       R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "prefixItems": [{"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}],
                                 "minItems": 1, "maxItems": 1}}})"}) {
    GrammarWalk walk = walk_of(schema);
    std::string open;
    while (walk.begins(open + "[") && open.size() < 1000) open += "[";
    EXPECT_GE(open.size(), 100u);
    EXPECT_LE(open.size(), 151u);
    const std::string inner = walk.begins(open + "n") ? "null" : "";
    const std::string text = open + inner + std::string(open.size(), ']');
    EXPECT_TRUE(walk.accepts(text)) << schema;
    EXPECT_NO_THROW(parse_json(text, "t"));
  }
}

// A text drawn token by token under the mask; after a while whatever closes is preferred, so that it ends.
class Drawer {
 public:
  Drawer(const Tokenizer& tokenizer, std::shared_ptr<const VocabularyIndex> vocabulary, const Json& schema)
      : tokenizer_(tokenizer), constraint_(shared(json_schema_grammar(schema, "s")), std::move(vocabulary)) {
    for (const char* text : {"\"", "]", "}", "null", "0", "/", ":", ","}) {
      for (int token = 0; token < tokenizer.size(); ++token) {
        if (!tokenizer.is_special(Token{token}) && tokenizer.piece(Token{token}) == text) closers_.push_back(Token{token});
      }
    }
  }

  std::string draw(std::uint64_t stream, std::vector<double>& milliseconds) {
    constexpr std::uint64_t kFree = 40, kMost = 4000;
    std::string text;
    constraint_.restart();
    for (std::uint64_t step = 0; step < kMost; ++step) {
      const auto start = std::chrono::steady_clock::now();
      const auto mask = constraint_.mask();
      milliseconds.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
      const Token token = choose(mask, random_bits(13, stream, step), step >= kFree);
      if (!constraint_.advance(token)) ADD_FAILURE() << "token " << id(token) << " is allowed and then refused";
      if (constraint_.ended()) return text;
      text += tokenizer_.piece(token);
    }
    ADD_FAILURE() << "no end after " << kMost << " tokens: " << text.substr(0, 300);
    return text;
  }

 private:
  static bool allowed(std::span<const std::uint32_t> mask, Token token) {
    return (mask[static_cast<std::size_t>(id(token)) / 32] >> (id(token) % 32) & 1u) != 0;
  }

  Token choose(std::span<const std::uint32_t> mask, std::uint64_t bits, bool closing) const {
    if (closing) {
      for (const Token token : tokenizer_.end_tokens()) {
        if (allowed(mask, token)) return token;
      }
      const auto closer = std::ranges::find_if(closers_, [&](Token token) { return allowed(mask, token); });
      if (closer != closers_.end() && bits % 8 != 0) return *closer;
    }
    std::uint64_t count = 0;
    for (const std::uint32_t word : mask) count += static_cast<std::uint64_t>(std::popcount(word));
    if (count == 0) ADD_FAILURE() << "no token is allowed";
    std::uint64_t rest = count == 0 ? 0 : (bits >> 8) % count;
    for (std::size_t w = 0; w < mask.size(); ++w) {
      const auto ones = static_cast<std::uint64_t>(std::popcount(mask[w]));
      if (rest >= ones) {
        rest -= ones;
        continue;
      }
      std::uint32_t word = mask[w];
      for (; rest > 0; --rest) word &= word - 1;
      return Token{static_cast<std::int32_t>(32 * w) + std::countr_zero(word)};
    }
    return tokenizer_.end_tokens().front();
  }

  const Tokenizer& tokenizer_;
  Constraint constraint_;
  std::vector<Token> closers_;  // that end something, or keep it short, the best first
};

double percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(p * static_cast<double>(values.size() - 1))];
}

void draw_texts(const Tokenizer& tokenizer) {
  const char* asked = std::getenv("PUNA_GRAMMAR_SAMPLES");
  const std::uint64_t count = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 10;
  const auto start = std::chrono::steady_clock::now();
  const auto vocabulary = std::make_shared<const VocabularyIndex>(tokenizer);
  const double index = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  std::vector<double> compiles, masks;
  const std::vector<Json> schemas = read_lines("grammar/schemas.jsonl");
  ASSERT_EQ(schemas.size(), 50u);
  std::size_t bytes = 0;
  for (const Json& schema : schemas) {
    SCOPED_TRACE(dump_json(schema));
    const auto before = std::chrono::steady_clock::now();
    json_schema_grammar(schema, "s");
    compiles.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - before).count());
    Drawer drawer(tokenizer, vocabulary, schema);
    SchemaValidator validator(schema);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string text = drawer.draw(i, masks);
      bytes += text.size();
      const Json value = Json::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text;
      ASSERT_TRUE(validator.valid(value)) << text;
    }
  }
  EXPECT_GT(bytes, 50 * count * 5);
  if (asked == nullptr) return;
  std::printf(
      "%d tokens, index %.0f ms and %.1f MB; compiling p50 %.2f p95 %.2f max %.2f ms; %zu masks p50 %.4f p99 %.3f p99.9 %.3f max "
      "%.3f ms\n",
      vocabulary->size(), index, static_cast<double>(vocabulary->memory()) / 1e6, percentile(compiles, 0.5),
      percentile(compiles, 0.95), percentile(compiles, 1), masks.size(), percentile(masks, 0.5), percentile(masks, 0.99),
      percentile(masks, 0.999), percentile(masks, 1));
}

TEST(JsonSchema, DrawnTextsAreValid) { draw_texts(PieceTokenizer(json_pieces())); }

TEST(JsonSchema, DrawnTextsOfLlama3sTokensAreValid) {
  PUNA_NEEDS_SHARED(kLlama3Tokenizer);
  draw_texts(*load_tokenizer_file(shared_data(kLlama3Tokenizer)));
}

}  // namespace
}  // namespace puna
