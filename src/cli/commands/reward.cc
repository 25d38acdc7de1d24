// SPDX-License-Identifier: Apache-2.0
// `puna reward`: each line of the input is a conversation, or a prompt with several answers; each gets its score on standard
// output.
#include "infer/reward_model.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/prompt_choice.h"
#include "cli/verb.h"
#include "train/data/row.h"

namespace puna {
namespace {

struct RewardFlags {
  std::string model, in = "-", format, date;
  EngineFlags engine;
};

// What the scores say of the order that the data gives, over all pairs of answers to one prompt.
struct Agreement {
  double agreeing = 0;  // ties are half
  std::int64_t pairs = 0;

  void add(const std::vector<double>& rewards) {
    for (std::size_t better = 0; better < rewards.size(); ++better) {
      for (std::size_t worse = better + 1; worse < rewards.size(); ++worse) {
        ++pairs;
        agreeing += rewards[better] > rewards[worse] ? 1 : rewards[better] == rewards[worse] ? 0.5 : 0;
      }
    }
  }
};

class Judge {
 public:
  explicit Judge(const RewardFlags& flags)
      : checkpoint_(open_model(flags.model)),
        format_(choose_prompt_format(*checkpoint_, flags.format)),
        date_(flags.date),
        engine_(checkpoint_, engine_options(flags.engine)) {}

  // Of the conversation, or of each answer, best first.
  std::vector<double> rewards(const Row& row) {
    std::vector<double> rewards;
    if (row.answers.empty()) rewards.push_back(score(row, {}));
    for (const std::vector<Message>& answer : row.answers) rewards.push_back(score(row, answer));
    return rewards;
  }

 private:
  double score(const Row& row, const std::vector<Message>& answer) {
    std::vector<Message> messages = row.messages;
    messages.insert(messages.end(), answer.begin(), answer.end());
    const PromptOptions options{.tools = row.tools,
                                .builtin_tools = row.builtin_tools,
                                .date = row.today.empty() ? date_ : row.today,
                                .generation_prompt = false};
    return reward(engine_, encode_prompt(checkpoint_->need_tokenizer(), render_prompt(format_, messages, options)));
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  PromptFormat format_;
  std::string date_;
  Engine engine_;
};

// {"id", "reward"} or {"id", "rewards"}: the line's own id, else its number.
Json scored(const TextLine& line, const Row& row, const std::vector<double>& rewards) {
  const Json value = parse_json(line.text, "");
  Json result = {{"id", value.contains("id") ? value.at("id") : Json(line.number)}};
  if (row.answers.empty()) {
    result["reward"] = rewards.front();
  } else {
    result["rewards"] = rewards;
  }
  return result;
}

void score(const RewardFlags& flags) {
  constexpr std::size_t kLooked = 8;  // rows that tell the kind
  const std::string text = read_file(flags.in);
  const std::vector<TextLine> lines = text_lines(text);
  std::vector<std::string_view> first;
  for (const TextLine& line : lines) {
    if (first.size() < kLooked) first.push_back(line.text);
  }
  const DataKind kind = recognise_rows(first, flags.in);
  Judge judge(flags);
  Agreement agreement;
  const InterruptScope scope(SecondPress::kEndsProcess);
  ProgressBar bar("scoring", lines.size(), "rows");
  for (const TextLine& line : lines) {
    if (interrupt_flag()) throw Interrupted();
    const std::string where = flags.in + ":" + std::to_string(line.number);
    try {
      const Row row = read_json_row(kind, line.text, false);
      if (row.messages.empty()) fail(ErrorKind::kBadInput, "", "expected a conversation, found a text");
      const std::vector<double> rewards = judge.rewards(row);
      agreement.add(rewards);
      write_json(scored(line, row, rewards));
    } catch (const RowError& error) {
      fail(ErrorKind::kBadInput, where, "{}", error.what());
    }
    bar.set(static_cast<std::size_t>(&line - lines.data()) + 1);
  }
  if (agreement.pairs > 0)
    write_note(fmt::format("{} pairs; the better answer has the higher reward in {:.1f} %", agreement.pairs,
                           100 * agreement.agreeing / static_cast<double>(agreement.pairs)));
}

}  // namespace

VerbAction declare_reward(Command& command) {
  const auto flags = std::make_shared<RewardFlags>();
  command.positional("MODEL", &flags->model, "a reward model: a run's checkpoint, or a LlamaForSequenceClassification").required =
      true;
  command.positional("IN", &flags->in, "conversations or preferences, one JSON object per line (default: standard input)");
  command.flag("--format", prompt_format_choices(), &flags->format, "the chat format, instead of the model's own");
  command.flag("--date", "DATE", &flags->date,
               "the date in prompts that tell it; without it, and without \"today\" in a row, none");
  add_engine_flags(command, flags->engine);
  return [flags] { score(*flags); };
}

}  // namespace puna
