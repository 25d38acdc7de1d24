// SPDX-License-Identifier: Apache-2.0
#include "train/data/loader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "train/data/encode_example.h"
#include "train/data/packing.h"
#include "train/data/row.h"
#include "train/data/shuffle_order.h"
#include "train/data/source.h"

namespace puna {

namespace {

constexpr int kStateVersion = 1;

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

// Where a source is, for this rank.
struct Cursor {
  std::int64_t read = 0;  // rows, over all epochs
  std::int64_t used = 0;  // of those, examples
  double drawn = 0;       // what its share counts: packed rows with weights, else rows of the file
};

// An example that has been drawn and not used up: `offset` of its rows are.
struct Carry {
  std::size_t source = 0;
  std::int64_t row = 0, offset = 0;
  std::shared_ptr<const Example> example;
};

}  // namespace

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
  void set_weights(std::span<const double> shares);

  std::int64_t rows_of_rank(std::size_t source) const {
    return (sources[source].rows() - options.rank + options.ranks - 1) / options.ranks;
  }
  bool has_ended(std::size_t source) const;
  std::optional<std::size_t> choose_source() const;
  std::int64_t row_at(std::size_t source, std::int64_t place) const;
  std::shared_ptr<const Example> load(std::size_t source, std::int64_t row, DataReport* count) const;
  std::optional<Carry> draw();

  Json state() const;
  void restore(const Json& state);
  void check_same_data(const Json& state) const;
};

void Loader::Impl::open() {
  std::int64_t rows = 0;
  for (const DataSource& source : options.sources) {
    sources.emplace_back(source, options);
    for (const RowFile& file : sources.back().files()) encoder.check(file.kind());
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

bool Loader::Impl::has_ended(std::size_t source) const {
  if (options.epochs == 0) return false;
  return cursors[source].read >= std::llround(options.epochs * static_cast<double>(rows_of_rank(source)));
}

// The one that is furthest behind its share; the first of equals.
std::optional<std::size_t> Loader::Impl::choose_source() const {
  std::optional<std::size_t> chosen;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    if (weights[s] == 0 || has_ended(s)) continue;
    if (!chosen || cursors[s].drawn * weights[*chosen] < cursors[*chosen].drawn * weights[s]) chosen = s;
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
  while (const auto source = choose_source()) {
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
      return Carry{*source, row, 0, std::move(example)};
    }
    if ((cursor.read >= mine || has_ended(*source)) && cursor.used == 0) {
      fail(ErrorKind::kBadInput, sources[*source].path(), "none of its {} rows can be trained on:\n{}", mine, report.text());
    }
  }
  return std::nullopt;
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

void Loader::set_lengths(std::int64_t sequence_length, std::int64_t batch_tokens) {
  check_lengths(sequence_length, batch_tokens);
  impl_->options.sequence_length = sequence_length;
  impl_->options.batch_tokens = batch_tokens;
  auto& carry = impl_->carry;
  if (!carry || carry->example->splittable) return;
  carry->example = impl_->load(carry->source, carry->row, nullptr);  // it may be too long now
  if (!carry->example) carry.reset();
}

Json Loader::Impl::state() const {
  Json list = Json::array();
  for (std::size_t s = 0; s < sources.size(); ++s) {
    list.push_back({{"path", sources[s].path()},
                    {"rows", sources[s].rows()},
                    {"bytes", sources[s].bytes()},
                    {"read", cursors[s].read},
                    {"used", cursors[s].used},
                    {"drawn", cursors[s].drawn}});
  }
  Json state = {{"version", kStateVersion},
                {"seed", std::to_string(options.seed)},
                {"rank", options.rank},
                {"ranks", options.ranks},
                {"shuffle", options.shuffle},
                {"sequence_length", options.sequence_length},
                {"batch_tokens", options.batch_tokens},
                {"by_size", by_size},
                {"weights", weights},
                {"sources", std::move(list)},
                {"report", report.to_json()}};
  if (carry) state["begun"] = {{"source", carry->source}, {"row", carry->row}, {"offset", carry->offset}};
  return state;
}

namespace {

constexpr const char* kState = "loader state";

std::int64_t whole_number(const Json& object, const char* key, std::int64_t least, std::int64_t most) {
  const auto value = json_at<std::int64_t>(object, key, kState);
  if (value < least || value > most) fail(ErrorKind::kBadInput, kState, "\"{}\" is {}, expected {} to {}", key, value, least, most);
  return value;
}

const Json& list_at(const Json& object, const char* key, std::size_t size) {
  if (!object.contains(key) || !object.at(key).is_array() || object.at(key).size() != size) {
    fail(ErrorKind::kBadInput, kState, "\"{}\" is not a list of {}: the state is of other sources", key, size);
  }
  return object.at(key);
}

}  // namespace

void Loader::Impl::check_same_data(const Json& state) const {
  const auto same = [](const char* what, const auto& saved, const auto& now) {
    if (saved != now) {
      fail(ErrorKind::kBadInput, kState, "{} was {} when it was saved and is {} now: the order would not be the same", what, saved,
           now);
    }
  };
  same("version", json_at<std::int64_t>(state, "version", kState), std::int64_t{kStateVersion});
  same("seed", json_at<std::string>(state, "seed", kState), std::to_string(options.seed));
  same("rank", json_at<std::int64_t>(state, "rank", kState), std::int64_t{options.rank});
  same("ranks", json_at<std::int64_t>(state, "ranks", kState), std::int64_t{options.ranks});
  same("shuffle", json_at<bool>(state, "shuffle", kState), options.shuffle);
  const Json& list = list_at(state, "sources", sources.size());
  for (std::size_t s = 0; s < sources.size(); ++s) {
    const auto name = [&](const char* what) { return std::string(what) + " of " + sources[s].path(); };
    same(name("the number of rows").c_str(), json_at<std::int64_t>(list[s], "rows", kState), sources[s].rows());
    same(name("the size in bytes").c_str(), json_at<std::int64_t>(list[s], "bytes", kState), sources[s].bytes());
  }
}

void Loader::Impl::restore(const Json& state) {
  if (!state.is_object()) fail(ErrorKind::kBadInput, kState, "expected a JSON object");
  check_same_data(state);
  constexpr std::int64_t kMost = std::int64_t{1} << 53;
  const Json& list = state.at("sources");
  std::vector<Cursor> saved;
  for (const Json& source : list) {
    saved.push_back(
        {whole_number(source, "read", 0, kMost), whole_number(source, "used", 0, kMost), json_at<double>(source, "drawn", kState)});
  }
  std::vector<double> shares;
  for (const Json& weight : list_at(state, "weights", sources.size())) {
    if (!weight.is_number()) fail(ErrorKind::kBadInput, kState, "a weight is {}, expected a number", weight.type_name());
    shares.push_back(weight.get<double>());
  }
  set_weights(shares);
  cursors = std::move(saved);
  by_size = json_at<bool>(state, "by_size", kState);
  options.sequence_length = whole_number(state, "sequence_length", 1, kMost);
  options.batch_tokens = whole_number(state, "batch_tokens", options.sequence_length, kMost);
  report = DataReport::from_json(state.contains("report") ? state.at("report") : Json::object(), kState);
  carry.reset();
  if (!state.contains("begun")) return;
  const Json& begun = state.at("begun");
  const auto source = static_cast<std::size_t>(whole_number(begun, "source", 0, static_cast<std::int64_t>(sources.size()) - 1));
  const std::int64_t row = whole_number(begun, "row", 0, sources[source].rows() - 1);
  auto example = load(source, row, nullptr);
  if (!example)
    fail(ErrorKind::kBadInput, kState, "{} can no longer be used, as it was: the options have changed", sources[source].where(row));
  const std::int64_t offset = whole_number(begun, "offset", 0, example->splittable ? example->rows() - 1 : 0);
  carry = Carry{source, row, offset, std::move(example)};
}

std::string Loader::state() const { return dump_json(impl_->state()); }
void Loader::restore(std::string_view state) { impl_->restore(parse_json(state, kState)); }

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
