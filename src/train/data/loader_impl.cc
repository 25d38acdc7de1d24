// SPDX-License-Identifier: Apache-2.0
#include "train/data/loader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "train/data/loader_impl.h"
#include "train/data/packing.h"
#include "train/data/row.h"
#include "train/data/shuffle_order.h"

namespace puna {
namespace {

void check_lengths(std::int64_t sequence_length, std::int64_t batch_tokens) {
  if (sequence_length < 1) fail(ErrorKind::kUsage, "sequence_length", "{} rows, expected at least 1", sequence_length);
  if (batch_tokens < sequence_length) {
    fail(ErrorKind::kUsage, "batch_tokens", "{} rows cannot hold a sequence of {}: raise it, or shorten the sequences",
         batch_tokens, sequence_length);
  }
}

void check_options(const DataOptions& options) {
  check_lengths(options.sequence_length, options.batch_tokens);
  if (options.sources.empty()) fail(ErrorKind::kUsage, "data", "no sources are given: name a file, folder or pattern");
  if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks) {
    fail(ErrorKind::kUsage, "data", "rank {} of {} is not possible", options.rank, options.ranks);
  }
  if (!(options.epochs >= 0) || options.epochs > 1e9) fail(ErrorKind::kUsage, "epochs", "{} is not possible", options.epochs);
  const auto given =
      std::count_if(options.sources.begin(), options.sources.end(), [](const auto& s) { return s.weight.has_value(); });
  if (given != 0 && given != static_cast<std::ptrdiff_t>(options.sources.size())) {
    fail(ErrorKind::kUsage, "data", "{} of {} sources have a weight: give all of them one, or none", given, options.sources.size());
  }
}

}  // namespace

void Loader::Impl::check_teacher(const RowFile& file, const std::string& path) const {
  if (options.teacher_vocabulary == 0) return;
  const TeacherShard* const teacher = file.teacher();
  if (teacher == nullptr) {
    fail(ErrorKind::kUsage, path,
         "holds nothing that a teacher says: name one in distillation.teacher, or let puna distill-data write it down");
  }
  if (teacher->vocabulary() == options.teacher_vocabulary) return;
  fail(ErrorKind::kBadInput, path,
       "is of a teacher with {} tokens in its vocabulary, the model has {}: they must be the same tokens", teacher->vocabulary(),
       options.teacher_vocabulary);
}

void Loader::Impl::open() {
  std::int64_t rows = 0;
  for (const DataSource& source : options.sources) {
    sources.emplace_back(source, options);
    for (const RowFile& file : sources.back().files()) {
      encoder.check(file.kind());
      check_teacher(file, source.path);
    }
    first_index.push_back(rows);
    rows += sources.back().rows();
    if (sources.back().rows() < options.ranks) {
      fail(ErrorKind::kBadInput, source.path, "{} rows cannot be shared by {} processes", sources.back().rows(), options.ranks);
    }
  }
  cursors.resize(sources.size());
  by_size = !options.sources.front().weight.has_value();
  std::vector<double> shares;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    shares.push_back(by_size ? static_cast<double>(rows_of_rank(s)) : *options.sources[s].weight);
  }
  set_weights(shares);
}

void Loader::Impl::set_weights(std::span<const double> shares) {
  if (shares.size() != sources.size()) {
    fail(ErrorKind::kUsage, "data weights", "{} weights for {} sources", shares.size(), sources.size());
  }
  double sum = 0;
  for (const double share : shares) {
    if (!(share >= 0) || !std::isfinite(share))
      fail(ErrorKind::kUsage, "data weights", "{} is not a weight: give 0 or more", share);
    sum += share;
  }
  if (sum == 0) fail(ErrorKind::kUsage, "data weights", "all weights are 0: nothing would be read");
  weights.assign(shares.begin(), shares.end());
  for (Cursor& cursor : cursors) cursor.drawn = 0;
}

bool Loader::Impl::has_ended(std::size_t source, std::span<const Cursor> at) const {
  if (options.epochs == 0) return false;
  return at[source].read >= std::llround(options.epochs * static_cast<double>(rows_of_rank(source)));
}

// The one that is furthest behind its share; the first of equals.
std::optional<std::size_t> Loader::Impl::choose_source(std::span<const Cursor> at) const {
  std::optional<std::size_t> chosen;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    if (weights[s] == 0 || has_ended(s, at)) continue;
    if (!chosen || at[s].drawn * weights[*chosen] < at[*chosen].drawn * weights[s]) chosen = s;
  }
  return chosen;
}

// The row that this rank reads as its `place`-th, counted over all epochs.
std::int64_t Loader::Impl::row_at(std::size_t source, std::int64_t place) const {
  const std::int64_t mine = rows_of_rank(source);
  const std::int64_t in_order = place % mine * options.ranks + options.rank;
  if (!options.shuffle) return in_order;
  return ShuffleOrder(sources[source].rows(), options.seed, source, static_cast<std::uint64_t>(place / mine)).at(in_order);
}

// nullptr for a row that cannot be used; counted where `count` is given.
std::shared_ptr<const Example> Loader::Impl::load(std::size_t source, std::int64_t row, DataReport* count) const {
  const auto where = [&](std::string_view what) { return sources[source].where(row) + ": " + std::string(what); };
  try {
    auto example = std::make_shared<Example>(sources[source].read(row, encoder, options.plain_strings));
    example->index = first_index[source] + row;
    if (options.one_row_answers) example->join_answers(options.seed);
    const std::int64_t before = example->longest();
    const bool cut = encoder.fit(*example, options.sequence_length, options.batch_tokens);
    if (count != nullptr) count->add_used();
    if (cut && count != nullptr) {
      count->add(DropReason::kTruncated, [&] { return where(fmt::format("cut from {} tokens", before)); });
    }
    return example;
  } catch (const RowError& error) {
    const bool refused = error.reason() == DropReason::kOverLong && options.over_long == OverLong::kError;
    if (options.strict || refused) {
      fail(ErrorKind::kBadInput, sources[source].where(row), "{}: {}", error.what(),
           options.strict ? "mend or remove the row, or do without strict" : "shorten it, or let over_long drop or truncate");
    }
    if (count != nullptr) count->add(error.reason(), [&] { return where(error.what()); });
    return nullptr;
  }
}

std::optional<Carry> Loader::Impl::draw() {
  while (const auto source = choose_source(cursors)) {
    Cursor& cursor = cursors[*source];
    const std::int64_t row = row_at(*source, cursor.read), mine = rows_of_rank(*source);
    auto example = load(*source, row, cursor.read < mine ? &report : nullptr);
    ++cursor.read;
    if (by_size) {
      cursor.drawn += 1;
    } else if (example) {
      cursor.drawn += static_cast<double>(example->rows());
    }
    if (example) {
      ++cursor.used;
      cursor.unusable = 0;
      return Carry{*source, row, 0, std::move(example)};
    }
    ++cursor.unusable;
    // A whole epoch, not as many rows in a row: the last of one and the first of the next may be the same.
    const bool epoch_in_vain = cursor.read % mine == 0 && cursor.unusable >= mine;
    if (epoch_in_vain || (cursor.used == 0 && has_ended(*source, cursors))) refuse(*source);
  }
  return std::nullopt;
}

// Says why with the rows as they are now: the run's report may know them from lengths under which they could be used.
void Loader::Impl::refuse(std::size_t source) const {
  const std::int64_t mine = rows_of_rank(source), end = cursors[source].read;
  DataReport why;
  for (std::int64_t place = std::max<std::int64_t>(0, end - mine); place < end; ++place) load(source, row_at(source, place), &why);
  fail(ErrorKind::kBadInput, sources[source].path(), "none of its {} rows can be trained on:\n{}", mine, why.text());
}

Loader::Loader(DataOptions options, const Tokenizer& tokenizer, PromptFormat format) {
  check_options(options);
  impl_ = std::make_unique<Impl>(std::move(options), tokenizer, std::move(format));
  impl_->open();
}

Loader::~Loader() = default;

StepBatches Loader::next(std::int64_t step_tokens) {
  if (step_tokens < 1) fail(ErrorKind::kUsage, "step_tokens", "{} rows, expected at least 1", step_tokens);
  auto& carry = impl_->carry;
  std::vector<Unit> units;
  Unit open;  // a sequence of documents that is not full yet
  const auto close = [&] {
    if (open.rows > 0) units.push_back(std::exchange(open, {}));
  };
  std::int64_t used = 0;
  while (used < step_tokens) {
    if (!carry) carry = impl_->draw();
    if (!carry) break;
    const std::int64_t left = carry->example->rows() - carry->offset;
    if (carry->example->splittable) {
      const std::int64_t rows = std::min({left, impl_->options.sequence_length - open.rows, step_tokens - used});
      open.add({carry->example, carry->offset, rows});
      used += rows;
      carry->offset += rows;
      if (rows == left) carry.reset();
      if (open.rows == impl_->options.sequence_length || !impl_->options.pack) close();
    } else {
      if (used > 0 && used + left > step_tokens) break;  // it begins the next step
      Unit whole;
      whole.add({carry->example, 0, left});
      units.push_back(std::move(whole));
      used += left;
      carry.reset();
    }
  }
  close();
  return pack_units(units, impl_->options.batch_tokens, impl_->options.pack);
}

std::optional<Example> Loader::next_example() {
  const std::optional<Carry> drawn = impl_->carry ? std::exchange(impl_->carry, std::nullopt) : impl_->draw();
  return drawn ? std::optional(*drawn->example) : std::nullopt;
}

void Loader::set_weights(std::span<const double> weights) {
  impl_->set_weights(weights);
  impl_->by_size = false;
}

const std::vector<double>& Loader::weights() const { return impl_->weights; }

void Loader::set_lengths(std::int64_t sequence_length, std::int64_t batch_tokens) {
  check_lengths(sequence_length, batch_tokens);
  impl_->options.sequence_length = sequence_length;
  impl_->options.batch_tokens = batch_tokens;
  for (Cursor& cursor : impl_->cursors) cursor.unusable = 0;
  auto& carry = impl_->carry;
  if (!carry || carry->example->splittable) return;
  carry->example = impl_->load(carry->source, carry->row, nullptr);  // it may be too long now
  if (!carry->example) carry.reset();
}

void Loader::rewind() {
  impl_->cursors.assign(impl_->cursors.size(), {});
  impl_->carry.reset();
}

Loader::Scan Loader::scan() const {
  Scan scan;
  for (std::size_t s = 0; s < impl_->sources.size(); ++s) {
    for (std::int64_t row = 0; row < impl_->sources[s].rows(); ++row) {
      const auto example = impl_->load(s, row, &scan.report);
      if (!example) continue;
      ++scan.examples;
      scan.rows += example->rows();
      scan.trained_tokens += example->trained_tokens();
    }
  }
  return scan;
}

std::int64_t Loader::count_steps(std::int64_t step_tokens) const {
  struct Length {
    std::int64_t rows = 0;  // 0: it cannot be used
    bool splittable = false;
  };
  const Impl& impl = *impl_;
  std::vector<std::vector<Length>> lengths(impl.sources.size());  // [sources, rows]
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    for (std::int64_t row = 0; row < impl.sources[s].rows(); ++row) {
      const auto example = impl.load(s, row, nullptr);
      lengths[s].push_back(example ? Length{example->rows(), example->splittable} : Length{});
    }
  }
  std::vector<Cursor> at(lengths.size());
  const auto draw = [&] {
    while (const auto source = impl.choose_source(at)) {
      const Length length = lengths[*source][static_cast<std::size_t>(impl.row_at(*source, at[*source].read++))];
      at[*source].drawn += impl.by_size ? 1 : static_cast<double>(length.rows);
      if (length.rows > 0) return length;
    }
    return Length{};
  };
  std::int64_t steps = 0;
  for (Length left = draw(); left.rows > 0; ++steps) {
    for (std::int64_t used = 0; used < step_tokens && left.rows > 0;) {
      if (used > 0 && !left.splittable && used + left.rows > step_tokens) break;
      const std::int64_t rows = left.splittable ? std::min(left.rows, step_tokens - used) : left.rows;
      used += rows;
      left.rows -= rows;
      if (left.rows == 0) left = draw();
    }
  }
  return steps;
}

std::vector<Loader::SourceState> Loader::sources() const {
  std::vector<SourceState> states;
  for (std::size_t s = 0; s < impl_->sources.size(); ++s) {
    const Source& source = impl_->sources[s];
    const double epochs = static_cast<double>(impl_->cursors[s].read) / static_cast<double>(impl_->rows_of_rank(s));
    states.push_back({source.path(), source.files().front().kind(), static_cast<std::int64_t>(source.files().size()), source.rows(),
                      source.bytes(), epochs});
  }
  return states;
}

std::int64_t Loader::rows() const {
  std::int64_t rows = 0;
  for (const Source& source : impl_->sources) rows += source.rows();
  return rows;
}

double Loader::epochs() const {
  std::int64_t read = 0, rows = 0;
  for (std::size_t s = 0; s < impl_->sources.size(); ++s) {
    read += impl_->cursors[s].read;
    rows += impl_->rows_of_rank(s);
  }
  return static_cast<double>(read) / static_cast<double>(rows);
}

const DataReport& Loader::report() const { return impl_->report; }
const Tokenizer& Loader::tokenizer() const { return impl_->tokenizer; }

std::string Loader::where(std::int64_t example) const {
  const auto& first = impl_->first_index;
  const auto source = static_cast<std::size_t>(std::upper_bound(first.begin(), first.end(), example) - first.begin() - 1);
  return impl_->sources[source].where(example - first[source]);
}

}  // namespace puna
