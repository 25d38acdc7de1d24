// SPDX-License-Identifier: Apache-2.0
// What is read for training, and how it becomes examples and batches.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace puna {

// What a file's rows hold. The names are those of data_kinds().
enum class DataKind {
  kAuto,         // recognised from the file's name and its first rows
  kText,         // a text file is one document (or one per block between blank lines)
  kTextRows,     // {"text": …}
  kMessages,     // OpenAI's {"messages": […], "tools": […]}; "weight": 0 on an assistant's message leaves it untrained
  kShareGpt,     // {"conversations": [{"from": "human", "value": …}, …], "system": …}
  kInstruction,  // Alpaca's {"instruction": …, "input": …, "output": …}
  kCompletion,   // {"prompt": …, "completion": …} or {"question": …, "answer": …}: texts, or lists of messages
  kPreference,   // {"prompt": …, "chosen": …, "rejected": …}; without a prompt, what chosen and rejected begin with in common
  kRanked,       // {"prompt": …, "answers": […]}: best first
  kTokens,       // a token shard (token_shard.h)
  kTeacherTokens,  // … with what a teacher says of it (teacher_shard.h)
};

// What happens to an example that is longer than the sequence length.
enum class OverLong { kDrop, kTruncate, kError };

struct DataSource {
  std::string path;  // a file, a folder (all files below it with a known ending) or a pattern (*, ?, […])
  DataKind kind = DataKind::kAuto;
  // Its share of the rows of the mixture, relative to the other sources'. Given for all sources or for none: then each source is
  // read in proportion to its size, so that all come to their ends together.
  std::optional<double> weight;
};

struct DataOptions {
  std::vector<DataSource> sources;
  std::int64_t sequence_length = 2048;  // rows of a document, a conversation, or a prompt with one of its answers (in one row: all)
  std::int64_t batch_tokens = 4096;     // rows of a batch, at least sequence_length
  bool pack = true;                     // several examples in a batch; else one
  bool whole_documents = false;         // text is not split where a sequence is full: OverLong decides instead
  bool blank_line_documents = false;    // in text files, blank lines end a document
  bool last_turn_only = false;          // of a conversation only the last answer is trained
  bool count_format_tokens = false;     // the end-of-turn tokens of preferred and ranked answers count in their log-probabilities
  bool plain_strings = false;           // prompts and answers that are texts continue each other; else they become chat turns
  bool one_row_answers = false;         // a prompt's answers follow each other in one row (Example::one_row)
  OverLong over_long = OverLong::kDrop;
  bool strict = false;  // the first row that cannot be used is an error; else it is counted and left out
  bool shuffle = true;
  double epochs = 0;  // passes over each source, then it ends; 0: again and again
  std::uint64_t seed = 1;
  int rank = 0, ranks = 1;  // this process reads every ranks-th example of the order
  // Above 0: all files must be shards of a teacher with so many tokens, and examples bring what it says.
  std::int64_t teacher_vocabulary = 0;
  std::string date;               // for prompts that tell the model today's date: "26 Jul 2024"; empty leaves it out
  std::filesystem::path scratch;  // where compressed files are unpacked to; empty: the system's folder for temporary files
  std::int64_t scratch_bytes = std::int64_t{256} << 30;  // one unpacked file may be at most this large
};

// Names for recipes and messages: "auto", "text", "messages", …; "drop", "truncate", "error". nullopt for what is not one of them.
std::vector<std::string_view> data_kinds();
std::string_view name_of(DataKind kind);
std::optional<DataKind> data_kind_from_name(std::string_view name);
std::optional<OverLong> over_long_from_name(std::string_view name);

}  // namespace puna
