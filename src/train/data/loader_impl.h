// SPDX-License-Identifier: Apache-2.0
// What a loader holds: between its reading (loader_impl.cc) and its saved state (loader_state.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/json.h"
#include "train/data/encode_example.h"
#include "train/data/loader.h"
#include "train/data/source.h"

namespace puna {

// Where a source is, for this rank.
struct Cursor {
  std::int64_t read = 0;  // rows, over all epochs
  std::int64_t used = 0;  // of those, examples
  double drawn = 0;       // what its share counts: packed rows with weights, else rows of the file
  // Rows without an example since the last one, under the lengths that rule; not saved.
  std::int64_t unusable = 0;
};

// An example that has been drawn and not used up: `offset` of its rows are.
struct Carry {
  std::size_t source = 0;
  std::int64_t row = 0, offset = 0;
  std::shared_ptr<const Example> example;
};

struct Loader::Impl {
  DataOptions options;
  const Tokenizer& tokenizer;
  ExampleEncoder encoder;
  std::vector<Source> sources;
  std::vector<std::int64_t> first_index;  // [sources] of its first row among all
  std::vector<Cursor> cursors;            // [sources]
  std::vector<double> weights;            // [sources]
  bool by_size = true;                    // weights are the sources' sizes, as none were given
  std::optional<Carry> carry;
  DataReport report;

  Impl(DataOptions given, const Tokenizer& its_tokenizer, PromptFormat format)
      : options(std::move(given)), tokenizer(its_tokenizer), encoder(tokenizer, std::move(format), options) {}

  void open();
  void check_teacher(const RowFile& file, const std::string& path) const;
  void set_weights(std::span<const double> shares);

  std::int64_t rows_of_rank(std::size_t source) const {
    return (sources[source].rows() - options.rank + options.ranks - 1) / options.ranks;
  }
  // Of a walk over the sources whose places are `at` [sources].
  bool has_ended(std::size_t source, std::span<const Cursor> at) const;
  std::optional<std::size_t> choose_source(std::span<const Cursor> at) const;
  std::int64_t row_at(std::size_t source, std::int64_t place) const;
  std::shared_ptr<const Example> load(std::size_t source, std::int64_t row, DataReport* count) const;
  std::optional<Carry> draw();
  [[noreturn]] void refuse(std::size_t source) const;

  Json state() const;
  void restore(const Json& state);
  void check_same_data(const Json& state) const;
};

}  // namespace puna
