// SPDX-License-Identifier: Apache-2.0
// Sources of data become the batches of optimizer steps. The order is a function of the seed, the epoch and the sources alone, and
// state() holds a place in it exactly: a loader restored from it continues bit for bit.
// Which examples a step holds does not depend on batch_tokens, so cutting a step into more or smaller batches changes nothing.
// Within a source, an epoch is a keyed permutation of its rows (shuffle_order.h); between sources, the next example comes from the
// one that is furthest behind its share.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"
#include "text/tokenizer.h"
#include "train/batch.h"
#include "train/data/data_options.h"
#include "train/data/data_report.h"
#include "train/data/example.h"

namespace puna {

class Loader {
 public:
  // Opens and indexes all files; memory is 8 bytes per row. `tokenizer` must outlive the loader. `format` is needed for
  // conversations only. Throws kNotFound for a path that leads nowhere, kBadInput for files that are not what they should be,
  // kUsage for options that contradict each other, kUnsupported where the tokenizer lacks a token of the format.
  Loader(DataOptions options, const Tokenizer& tokenizer, PromptFormat format);
  ~Loader();

  // The examples of the next step: as many as fit in `step_tokens` rows, at least one. Text and token shards fill the step exactly.
  // No batches: the data has ended (options.epochs). Throws kBadInput where a source turns out to hold nothing to train on under
  // the lengths that rule, where the first bad row meets `strict`, and where an over-long example meets OverLong::kError.
  StepBatches next(std::int64_t step_tokens);
  // The next example of the order by itself, as inspection wants it; nullopt at the end.
  std::optional<Example> next_example();

  // From now on: shares of the mixture, one per source, none negative, one positive. Throws kUsage otherwise.
  void set_weights(std::span<const double> weights);
  const std::vector<double>& weights() const;
  // From now on. What has been begun of a split document continues under the new length. Throws kUsage as the constructor does.
  void set_lengths(std::int64_t sequence_length, std::int64_t batch_tokens);
  // To the first example of all, also where the data had ended; weights and lengths stay.
  void rewind();

  // JSON, some hundred bytes. restore() throws kBadInput where the state is another loader's: other files, seed, order or ranks.
  std::string state() const;
  void restore(std::string_view state);

  // Reads every row once, in the order of the files, without moving: what `strict` runs want to know before they start, and how
  // many examples, rows and trained tokens an epoch has.
  struct Scan {
    DataReport report;
    std::int64_t examples = 0, rows = 0, trained_tokens = 0;
  };
  Scan scan() const;
  // How many steps next(step_tokens) makes of options.epochs from the beginning; reads every row once.
  std::int64_t count_steps(std::int64_t step_tokens) const;

  struct SourceState {
    std::string path;                 // as given
    DataKind kind;                    // of its first file
    std::int64_t files, rows, bytes;  // rows in the files, and bytes unpacked, of all ranks
    double epochs;                    // how often it has been read so far, by this rank: 1.25
  };
  std::vector<SourceState> sources() const;
  // Of all sources: rows in their files, of all ranks; and passes over them, rows read so far by the rows there are.
  std::int64_t rows() const;
  double epochs() const;
  // Since the start of the run: each row counts once, when it is first met.
  const DataReport& report() const;
  // "data/chat.jsonl:17" for PackedBatch::examples.
  std::string where(std::int64_t example) const;
  const Tokenizer& tokenizer() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace puna
