// SPDX-License-Identifier: Apache-2.0
// A loader's place as JSON. Examples are not written: the one that has been begun is read again from its row.
#include <string>
#include <utility>

#include "base/error.h"
#include "train/data/loader_impl.h"

namespace puna {
namespace {

constexpr int kStateVersion = 1;
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

}  // namespace puna
