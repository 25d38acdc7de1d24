// SPDX-License-Identifier: Apache-2.0
// `puna batch`: a file of chat requests becomes a file of answers, in the same order, several written at once. What surprises:
// lines that stand in the output already are not asked again, so a run that was stopped goes on; and a request that cannot be
// answered takes its line in the output and stops nobody else's.
#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "base/progress.h"
#include "cli/draft_flags.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/prompt_choice.h"
#include "cli/verb.h"
#include "grammar/answer_shape.h"
#include "infer/scheduler.h"
#include "kernels/activations.h"
#include "model/adapter_file.h"
#include "text/conversation.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

struct BatchFlags {
  std::string model, in, out, format, date;
  std::int64_t max_tokens = -1;
  int parallel = 7;
  bool strict = false, force = false, json = false;
  EngineFlags engine;
  SamplerFlags sampler;
  DraftFlags draft;
  std::vector<std::string> adapters;  // NAME=FOLDER
};

// A line's own name, else its number.
Json id_of(const TextLine& line, const Json& value) {
  for (const char* key : {"custom_id", "id"}) {
    if (value.is_object() && value.contains(key) && !value.at(key).is_null()) return value.at(key);
  }
  return line.number;
}

Json id_of(const TextLine& line) {
  try {
    return id_of(line, parse_json(line.text, ""));
  } catch (const Error&) {
    return line.number;  // the answer to it says what is wrong
  }
}

// What the answers would differ by if it were passed over in silence.
void refuse_unknown(const Json& body, const std::string& where) {
  const std::array<std::pair<const char*, Json>, 2> only = {{{"n", 1}, {"logprobs", false}}};
  for (const auto& [key, value] : only) {
    if (!body.contains(key) || body.at(key).is_null() || body.at(key) == value) continue;
    fail(ErrorKind::kUnsupported, where, "\"{}\" is {}, and only {} can be done here", key, dump_json(body.at(key)),
         dump_json(value));
  }
}

// A text, or a list of texts.
std::vector<std::string> stop_texts(const Json& body, const std::string& where) {
  if (!body.contains("stop") || body.at("stop").is_null()) return {};
  const Json& stop = body.at("stop");
  const Json list = stop.is_array() ? stop : Json::array({stop});
  std::vector<std::string> texts;
  for (const Json& text : list) {
    if (!text.is_string()) fail(ErrorKind::kBadInput, where, "\"stop\" is {}, expected a text or a list of texts", dump_json(stop));
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

GenerateOptions generate_options(const Json& body, const BatchFlags& flags, const SamplerOptions& sampler,
                                 const std::string& where) {
  GenerateOptions options;
  options.sampler = sampler;
  options.sampler.temperature = json_or<double>(body, "temperature", sampler.temperature, where);
  options.sampler.top_p = json_or<double>(body, "top_p", sampler.top_p, where);
  options.sampler.presence_penalty = json_or<double>(body, "presence_penalty", sampler.presence_penalty, where);
  options.sampler.frequency_penalty = json_or<double>(body, "frequency_penalty", sampler.frequency_penalty, where);
  options.sampler.seed =
      static_cast<std::uint64_t>(json_or<std::int64_t>(body, "seed", static_cast<std::int64_t>(sampler.seed), where));
  options.max_tokens = json_or<std::int64_t>(body, "max_tokens", flags.max_tokens, where);
  options.max_tokens = json_or<std::int64_t>(body, "max_completion_tokens", options.max_tokens, where);
  options.stop = stop_texts(body, where);
  options.with_specials = true;  // a call may begin with <|python_tag|>
  return options;
}

std::string_view finish_reason(FinishReason reason, const Message& message) {
  if (reason == FinishReason::kLength || reason == FinishReason::kContextFull) return "length";
  return message.tool_calls.empty() ? "stop" : "tool_calls";
}

using AdapterList = std::vector<std::shared_ptr<const AdapterSet>>;

AdapterList open_adapters(const std::vector<std::string>& given, const Checkpoint& checkpoint) {
  AdapterList list;
  for (const std::string& text : given) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      fail(ErrorKind::kUsage, "--adapter", "'{}': expected NAME=FOLDER, for example sql=runs/sql", text);
    list.push_back(load_adapters(read_adapter(text.substr(equals + 1)), checkpoint, text.substr(0, equals)));
  }
  return list;
}

// Those that the request names; none where it names none.
std::shared_ptr<const AdapterSet> adapters_of(const Json& body, const AdapterList& list, const std::string& where) {
  const auto name = json_or<std::string>(body, "adapter", "", where);
  if (name.empty()) return nullptr;
  const auto place = std::ranges::find(list, name, [](const auto& adapters) { return adapters->name; });
  if (place != list.end()) return *place;
  std::vector<std::string> names;
  for (const auto& adapters : list) names.push_back(adapters->name);
  fail(ErrorKind::kBadInput, where, "\"adapter\" is '{}', which --adapter does not name{}", name, did_you_mean(name, names));
}

EngineOptions batch_engine(const BatchFlags& flags, const AdapterList& adapters) {
  EngineOptions options = engine_options(flags.engine);
  options.sequences = flags.parallel;
  options.logit_rows = flags.draft.given() ? std::max<std::int64_t>(flags.parallel, kPanelRows - 1) : flags.parallel;
  options.adapters = adapters;
  return options;
}

// Requests go in, answers come out in the same order. What prompts share at their beginnings is computed once.
class Answerer {
 public:
  explicit Answerer(const BatchFlags& flags)
      : flags_(flags),
        sampler_(sampler_options(flags.sampler)),
        checkpoint_(open_model(flags.model)),
        format_(choose_prompt_format(*checkpoint_, flags.format)),
        date_(flags.date.empty() ? today() : flags.date),
        constraints_(checkpoint_->need_tokenizer()),
        adapters_(open_adapters(flags.adapters, *checkpoint_)),
        drafts_(flags.draft, *checkpoint_, flags.engine, flags.parallel),
        engine_(checkpoint_, batch_engine(flags, adapters_)),
        scheduler_(engine_, {.most_running = flags.parallel, .large_groups = flags.parallel >= kPanelRows}) {}

  // Whether there are enough requests in hand to keep the engine busy.
  bool is_full() const { return pending_.size() >= 4 * static_cast<std::size_t>(flags_.parallel); }

  void ask(const TextLine& line) {
    const auto pending = std::make_shared<Pending>();
    pending_.push_back(pending);
    pending->id = line.number;
    try {
      const std::string where = "line " + std::to_string(line.number);
      const Json value = parse_json(line.text, where);
      pending->id = id_of(line, value);
      if (!value.is_object()) fail(ErrorKind::kBadInput, where, "is {}, expected an object with \"messages\"", value.type_name());
      request(value.contains("body") ? value.at("body") : value, where, pending);
    } catch (const Error& error) {
      refuse(*pending, error);
    }
  }

  // Computes on; false where everything that was asked is answered.
  bool step() { return scheduler_.step(); }

  // {"id", "message", "raw", "finish_reason", "usage"}, or {"id", "error"}: of the oldest request, once it is there.
  std::optional<Json> take() {
    if (pending_.empty() || pending_.front()->answer.is_null()) return std::nullopt;
    Json answer = std::move(pending_.front()->answer);
    pending_.pop_front();
    return answer;
  }

  std::int64_t answered() const { return answered_; }
  std::int64_t failed() const { return failed_; }
  std::int64_t prompt_tokens() const { return prompt_tokens_; }
  std::int64_t cached_tokens() const { return cached_tokens_; }
  std::int64_t completion_tokens() const { return completion_tokens_; }

 private:
  struct Pending {
    Json id, answer;  // null until it is there
    PromptOptions prompt;
  };

  void refuse(Pending& pending, const Error& error) {
    if (error.kind() == ErrorKind::kInternal) throw error;
    ++failed_;
    pending.answer = {{"id", pending.id}, {"error", {{"message", error.what()}}}};
  }

  void request(const Json& body, const std::string& where, const std::shared_ptr<Pending>& pending) {
    refuse_unknown(body, where);
    pending->prompt = {.tools = {}, .builtin_tools = {}, .date = date_};
    if (!body.contains("messages")) fail(ErrorKind::kBadInput, where, "has no \"messages\": give a list of them");
    const std::vector<Message> messages = messages_from_json(body.at("messages"), where);
    if (messages.empty()) fail(ErrorKind::kBadInput, where, "\"messages\" is empty: give at least one");
    if (body.contains("tools") && !body.at("tools").is_null()) pending->prompt.tools = tools_from_json(body.at("tools"), where);
    GenerateOptions options = generate_options(body, flags_, sampler_, where);
    if (const auto shape = answer_shape(body, format_, pending->prompt.tools, where)) options.constraint = constraints_.get(*shape);
    options.adapters = adapters_of(body, adapters_, where);
    drafts_.give(options);
    scheduler_.add(encode_prompt(checkpoint_->need_tokenizer(), render_prompt(format_, messages, pending->prompt)), options,
                   {.text = {},
                    .done = [this, pending](const Generation& generation) { answer(*pending, generation); },
                    .failed = [this, pending](const Error& error) { refuse(*pending, error); }});
  }

  void answer(Pending& pending, const Generation& generation) {
    std::string raw = generation.text;
    if (id(generation.last) >= 0) raw += checkpoint_->need_tokenizer().piece(generation.last, true);
    Message message{.role = Role::kAssistant, .content = generation.text, .tool_calls = {}, .tool_call_id = {}};
    if (!pending.prompt.tools.empty()) message = parse_assistant(format_, generation.text, pending.prompt.tools);
    const auto written = static_cast<std::int64_t>(generation.tokens.size());
    ++answered_;
    prompt_tokens_ += generation.prompt_tokens;
    cached_tokens_ += generation.cached_tokens;
    completion_tokens_ += written;
    pending.answer = {{"id", pending.id},
                      {"message", message_to_json(message)},
                      {"raw", raw},
                      {"finish_reason", finish_reason(generation.reason, message)},
                      {"usage", {{"prompt_tokens", generation.prompt_tokens}, {"completion_tokens", written}}}};
  }

  const BatchFlags& flags_;
  SamplerOptions sampler_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  PromptFormat format_;
  std::string date_;
  ConstraintPool constraints_;
  AdapterList adapters_;
  DraftSource drafts_;
  Engine engine_;
  Scheduler scheduler_;
  std::deque<std::shared_ptr<Pending>> pending_;  // in the order they were asked
  std::int64_t answered_ = 0, failed_ = 0, prompt_tokens_ = 0, cached_tokens_ = 0, completion_tokens_ = 0;
};

// Cuts off what a killed run left of a line, and returns how many answers stand there; they must be the first lines' of the input.
std::size_t keep_answers(const std::string& out, const std::vector<TextLine>& lines) {
  if (!fs::exists(out)) return 0;
  const std::string text = read_file(out);
  const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  const std::vector<TextLine> kept = text_lines(std::string_view(text).substr(0, whole));
  if (kept.size() > lines.size())
    fail(ErrorKind::kUsage, out, "holds {} answers, but there are {} requests: --force overwrites it", kept.size(), lines.size());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const Json asked = id_of(lines[i]), answered = id_of(kept[i]);
    if (asked == answered) continue;
    fail(ErrorKind::kUsage, out, "line {} answers {}, but the request there is {}: --force overwrites the file", kept[i].number,
         dump_json(answered), dump_json(asked));
  }
  if (whole < text.size()) fs::resize_file(out, whole);
  return kept.size();
}

void write_line(std::ofstream& file, const std::string& out, const Json& value) {
  file << dump_json(value) << '\n' << std::flush;
  if (!file) fail(ErrorKind::kNoRoom, out, "cannot be written: the disk is full, or the folder may not be written to");
}

void batch(const BatchFlags& flags) {
  const std::string text = read_file(flags.in);
  const std::vector<TextLine> lines = text_lines(text);
  if (lines.empty()) fail(ErrorKind::kBadInput, flags.in, "there are no requests: every line is blank");
  const std::size_t kept = flags.force ? 0 : keep_answers(flags.out, lines);
  Answerer answerer(flags);
  std::ofstream file(flags.out, flags.force ? std::ios::binary | std::ios::trunc : std::ios::binary | std::ios::app);
  if (!file) fail(ErrorKind::kBadInput, flags.out, "cannot be opened for writing: is its folder there?");

  const auto start = std::chrono::steady_clock::now();
  const InterruptScope scope(SecondPress::kEndsProcess);
  {
    ProgressBar bar("answering", lines.size(), "requests");
    std::size_t asked = kept, written = kept;
    while (written < lines.size()) {
      while (asked < lines.size() && !answerer.is_full()) answerer.ask(lines[asked++]);
      answerer.step();
      if (interrupt_flag()) throw Interrupted();
      while (const std::optional<Json> answer = answerer.take()) {
        write_line(file, flags.out, *answer);
        bar.set(++written);
      }
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (flags.json) {
    write_json({{"path", flags.out},
                {"answered", answerer.answered()},
                {"failed", answerer.failed()},
                {"kept", kept},
                {"prompt_tokens", answerer.prompt_tokens()},
                {"cached_tokens", answerer.cached_tokens()},
                {"completion_tokens", answerer.completion_tokens()},
                {"seconds", seconds}});
  } else {
    write_text(fmt::format("{}: {} answered, {} failed, {} were there already; {} tokens written in {:.1f} s\n", flags.out,
                           answerer.answered(), answerer.failed(), kept, answerer.completion_tokens(), seconds));
  }
  if (flags.strict && answerer.failed() > 0)
    fail(ErrorKind::kBadInput, flags.in, "{} of {} requests failed: \"error\" in {} says why", answerer.failed(), lines.size(),
         flags.out);
}

}  // namespace

VerbAction declare_batch(Command& command) {
  const auto flags = std::make_shared<BatchFlags>();
  flags->sampler.options.temperature = 0;
  add_model(command, flags->model);
  command.positional("IN", &flags->in, "requests, one JSON object per line (- is standard input)").required = true;
  command.positional("OUT", &flags->out, "the file of answers; what stands in it is not asked again").required = true;
  command.flag("-n,--max-tokens", "N", &flags->max_tokens,
               "tokens of an answer at most; -1: until the model ends or the context is full");
  command.flag("--parallel", "N", &flags->parallel, "answers written at once (default 7)").range = {1, 256};
  command.flag("--strict", &flags->strict, "end with an error where a request failed");
  command.flag("--force", &flags->force, "overwrite OUT instead of going on with it");
  command.flag("--format", prompt_format_choices(), &flags->format, "the chat format, instead of the model's own");
  command.flag("--date", "DATE", &flags->date, "the date that the chat format mentions (default: today's, as 26 Jul 2024)");
  add_sampler_flags(command, flags->sampler);
  add_json(command, flags->json);
  command.flag("--adapter", "NAME=FOLDER", &flags->adapters, "adapters that requests may name in \"adapter\"; may be repeated");
  add_draft_flags(command, flags->draft);
  add_engine_flags(command, flags->engine);
  return [flags] { batch(*flags); };
}

}  // namespace puna
