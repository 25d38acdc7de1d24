// SPDX-License-Identifier: Apache-2.0
#include "grammar/answer_shape.h"

#include <algorithm>
#include <list>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error.h"
#include "grammar/json_schema.h"
#include "grammar/tool_grammar.h"

namespace puna {
namespace {

// {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}
Grammar grammar_of_response_format(const Json& format, const std::string& where) {
  const std::string type = json_at<std::string>(format, "type", where);
  if (type == "json_object") return json_object_grammar();
  if (type != "json_schema") {
    fail(ErrorKind::kUnsupported, where, "\"response_format\" has the type \"{}\", expected text, json_object or json_schema",
         type);
  }
  if (!format.contains("json_schema") || !format.at("json_schema").is_object() || !format.at("json_schema").contains("schema"))
    fail(ErrorKind::kBadInput, where, "\"response_format\" has no \"json_schema\" with a \"schema\"");
  return json_schema_grammar(format.at("json_schema").at("schema"), where + ": schema");
}

// The tool that {"type": "function", "function": {"name": …}} names; "required" names none.
std::string chosen_tool(const Json& choice, const std::string& where) {
  if (choice == "required") return "";
  if (choice.is_object() && choice.contains("function")) return json_at<std::string>(choice.at("function"), "name", where);
  fail(ErrorKind::kUnsupported, where,
       "\"tool_choice\" is {}, and only \"auto\", \"required\" and a function by its name can be done here", dump_json(choice));
}

const Json* given(const Json& body, const char* key, const Json& otherwise) {
  if (!body.contains(key) || body.at(key).is_null() || body.at(key) == otherwise) return nullptr;
  return &body.at(key);
}

}  // namespace

std::optional<AnswerShape> answer_shape(const Json& body, const PromptFormat& format, std::span<const Tool> tools,
                                        const std::string& where) {
  const Json* shape = given(body, "response_format", Json{{"type", "text"}});
  const Json* choice = given(body, "tool_choice", "auto");
  if (shape != nullptr && !tools.empty()) {
    fail(ErrorKind::kUnsupported, where, "\"response_format\" and \"tools\" together cannot be done here: ask for one of them");
  }
  if (choice != nullptr) {
    const std::string named = chosen_tool(*choice, where);
    return AnswerShape{.key = dump_json({format.name, *choice, body.contains("tools") ? body.at("tools") : Json()}),
                       .make = [format, tools = std::vector<Tool>(tools.begin(), tools.end()), named] {
                         return tool_call_grammar(format, tools, named);
                       }};
  }
  if (shape == nullptr) return std::nullopt;
  return AnswerShape{.key = dump_json(*shape),
                     .make = [shape = *shape, where] { return grammar_of_response_format(shape, where); }};
}

AnswerShape call_or_text_shape(const PromptFormat& format, std::span<const Tool> tools, const Json& tools_key) {
  return {.key = dump_json({format.name, "auto", tools_key}),
          .make = [format, tools = std::vector<Tool>(tools.begin(), tools.end())] { return call_or_text_grammar(format, tools); }};
}

// Constraints of one shape that nobody holds lie in `free`; who gives one back finds its shape there, or lets it go.
struct ConstraintPool::State {
  static constexpr std::size_t kShapes = 8;
  static constexpr std::size_t kMaskBytes = std::size_t{16} << 20;  // of each constraint
  struct Shape {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
    std::vector<std::unique_ptr<Constraint>> free;
  };
  explicit State(const Tokenizer& its_tokenizer) : tokenizer(its_tokenizer) {}

  const Tokenizer& tokenizer;
  std::mutex mutex;
  std::shared_ptr<const VocabularyIndex> vocabulary;
  std::list<Shape> shapes;  // the latest first

  Shape* find(const std::string& key) {
    const auto found = std::ranges::find(shapes, key, &Shape::key);
    if (found == shapes.end()) return nullptr;
    shapes.splice(shapes.begin(), shapes, found);
    return &shapes.front();
  }
};

ConstraintPool::ConstraintPool(const Tokenizer& tokenizer) : state_(std::make_shared<State>(tokenizer)) {}

std::shared_ptr<Constraint> ConstraintPool::get(const AnswerShape& shape) {
  std::unique_lock lock(state_->mutex);
  State::Shape* known = state_->find(shape.key);
  if (known == nullptr) {
    lock.unlock();  // a large schema takes a while
    auto grammar = std::make_shared<const Grammar>(shape.make());
    lock.lock();
    known = state_->find(shape.key);
    if (known == nullptr) {
      state_->shapes.push_front({.key = shape.key, .grammar = std::move(grammar), .free = {}});
      if (state_->shapes.size() > State::kShapes) state_->shapes.pop_back();
      known = &state_->shapes.front();
    }
  }
  if (state_->vocabulary == nullptr) state_->vocabulary = std::make_shared<const VocabularyIndex>(state_->tokenizer);
  if (known->free.empty())
    known->free.push_back(std::make_unique<Constraint>(known->grammar, state_->vocabulary, State::kMaskBytes));
  std::unique_ptr<Constraint> constraint = std::move(known->free.back());
  known->free.pop_back();
  return {constraint.release(), [state = std::weak_ptr(state_), key = shape.key](Constraint* given_back) {
            std::unique_ptr<Constraint> owned(given_back);
            const std::shared_ptr<State> pool = state.lock();
            if (pool == nullptr) return;
            const std::scoped_lock again(pool->mutex);
            const auto found = std::ranges::find(pool->shapes, key, &State::Shape::key);
            if (found != pool->shapes.end()) found->free.push_back(std::move(owned));
          }};
}

}  // namespace puna
