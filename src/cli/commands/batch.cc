// SPDX-License-Identifier: Apache-2.0
// `puna batch`: a file of chat requests becomes a file of answers, in the same order, several written at once. What surprises:
// lines that stand in the output already are not asked again, so a run that was stopped goes on; and a request that cannot be
// answered takes its line in the output and stops nobody else's.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
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

// Null where the line is no JSON: the answer to it says what is wrong.
Json value_of(const TextLine& line) {
  try {
    return parse_json(line.text, "");
  } catch (const Error&) {
    return nullptr;
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

// None where there is no such file; "-" is the standard stream.
std::optional<struct stat> status_of(const std::string& path, int standard) {
  struct stat status {};
  if ((path == "-" ? ::fstat(standard, &status) : ::stat(path.c_str(), &status)) != 0) return std::nullopt;
  return status;
}

bool is_same_file(const std::optional<struct stat>& a, const std::optional<struct stat>& b) {
  return a && b && a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

// Where the answers go: a regular file, which is gone on with; or standard output, a pipe or a device, which are written only.
class AnswerSink {
 public:
  // Throws kUsage where the requests stand there: they would be taken for answers.
  AnswerSink(const std::string& in, const std::string& out) : name_(out == "-" ? "standard output" : out) {
    const auto status = status_of(out, STDOUT_FILENO);
    const bool regular = status && S_ISREG(status->st_mode);
    if (regular && is_same_file(status, status_of(in, STDIN_FILENO)))
      fail(ErrorKind::kUsage, name_, "the requests stand in this file: give another one for the answers");
    is_standard_output_ = out == "-" || is_same_file(status, status_of("-", STDOUT_FILENO));  // as /dev/stdout is
    holds_answers_ = regular && out != "-";
  }
  ~AnswerSink() {
    if (descriptor_ != STDOUT_FILENO) ::close(descriptor_);
  }
  AnswerSink(const AnswerSink&) = delete;
  AnswerSink& operator=(const AnswerSink&) = delete;

  const std::string& name() const { return name_; }
  bool is_standard_output() const { return is_standard_output_; }  // and it then holds nothing but answers
  bool holds_answers() const { return holds_answers_; }

  void open(bool overwrite) {
    if (is_standard_output_) return;
    const int file = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (overwrite ? O_TRUNC : O_APPEND), 0666);
    if (file < 0) fail(ErrorKind::kBadInput, name_, "cannot be opened for writing: {}", std::strerror(errno));
    descriptor_ = file;
  }
  void write(const Json& answer) { write_all(descriptor_, json_line(answer), name_); }

 private:
  std::string name_;
  int descriptor_ = STDOUT_FILENO;
  bool is_standard_output_ = false, holds_answers_ = false;
};

struct Kept {
  std::size_t lines = 0, failed = 0;  // failed: those that hold an error
};

// Cuts off what a killed run left of a line, and counts the answers that stand there; they must be the first lines' of the input.
Kept keep_answers(const std::string& out, const std::vector<TextLine>& lines) {
  const std::string text = read_file(out);
  const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  const std::vector<TextLine> answers = text_lines(std::string_view(text).substr(0, whole));
  if (answers.size() > lines.size())
    fail(ErrorKind::kUsage, out, "holds {} answers, but there are {} requests: --force overwrites it", answers.size(),
         lines.size());
  Kept kept{.lines = answers.size()};
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Json answer = value_of(answers[i]), asked = id_of(lines[i], value_of(lines[i])), answered = id_of(answers[i], answer);
    if (asked != answered) {
      fail(ErrorKind::kUsage, out, "line {} answers {}, but the request there is {}: --force overwrites the file",
           answers[i].number, dump_json(answered), dump_json(asked));
    }
    if (answer.is_object() && answer.contains("error")) ++kept.failed;
  }
  if (whole < text.size()) fs::resize_file(out, whole);
  return kept;
}

// Those behind the first `done`.
void answer_lines(const std::vector<TextLine>& lines, std::size_t done, Answerer& answerer, AnswerSink& sink) {
  const InterruptScope scope(SecondPress::kEndsProcess);
  std::optional<ProgressBar> bar;  // not where the answers themselves appear on the terminal
  if (!sink.is_standard_output() || !output_is_terminal()) bar.emplace("answering", lines.size(), "requests");
  std::size_t asked = done;
  while (done < lines.size()) {
    while (asked < lines.size() && !answerer.is_full()) answerer.ask(lines[asked++]);
    answerer.step();
    if (interrupt_flag()) throw Interrupted();
    while (const std::optional<Json> answer = answerer.take()) {
      sink.write(*answer);
      ++done;
      if (bar) bar->set(done);
    }
  }
}

void report(const BatchFlags& flags, const Answerer& answerer, const Kept& kept, const AnswerSink& sink, double seconds) {
  std::string text;
  if (flags.json) {
    text = json_line({{"path", flags.out},
                      {"answered", answerer.answered()},
                      {"failed", answerer.failed()},
                      {"kept", kept.lines},
                      {"kept_failed", kept.failed},
                      {"prompt_tokens", answerer.prompt_tokens()},
                      {"cached_tokens", answerer.cached_tokens()},
                      {"completion_tokens", answerer.completion_tokens()},
                      {"seconds", seconds}});
  } else {
    const std::string before = kept.failed > 0 ? fmt::format(" ({} of them failed)", kept.failed) : "";
    text = fmt::format("{}: {} answered, {} failed, {} were there already{}; {} tokens written in {:.1f} s\n", sink.name(),
                       answerer.answered(), answerer.failed(), kept.lines, before, answerer.completion_tokens(), seconds);
  }
  if (!sink.is_standard_output()) return write_text(text);
  text.pop_back();
  write_note(text);
}

void batch(const BatchFlags& flags) {
  AnswerSink sink(flags.in, flags.out);
  const std::string text = read_file(flags.in);
  const std::vector<TextLine> lines = text_lines(text);
  if (lines.empty()) fail(ErrorKind::kBadInput, flags.in, "there are no requests: every line is blank");
  const Kept kept = flags.force || !sink.holds_answers() ? Kept() : keep_answers(flags.out, lines);
  Answerer answerer(flags);
  sink.open(flags.force);

  const auto start = std::chrono::steady_clock::now();
  answer_lines(lines, kept.lines, answerer, sink);
  report(flags, answerer, kept, sink, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());

  const auto before = static_cast<std::int64_t>(kept.failed);
  if (!flags.strict || before + answerer.failed() == 0) return;
  fail(ErrorKind::kBadInput, flags.in, "{} of {} requests failed{}: \"error\" in {} says why", before + answerer.failed(),
       lines.size(), before > 0 ? fmt::format(", {} of them in an earlier run", before) : "", sink.name());
}

}  // namespace

VerbAction declare_batch(Command& command) {
  const auto flags = std::make_shared<BatchFlags>();
  flags->sampler.options.temperature = 0;
  add_model(command, flags->model);
  command.positional("IN", &flags->in, "requests, one JSON object per line (- is standard input)").required = true;
  command.positional("OUT", &flags->out, "the file of answers, what stands in it is not asked again (- is standard output)")
      .required = true;
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
