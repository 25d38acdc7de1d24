// SPDX-License-Identifier: Apache-2.0
#include "train/data/data_options.h"

#include <array>
#include <utility>

namespace puna {
namespace {

constexpr std::array<std::pair<std::string_view, DataKind>, 11> kKinds = {{{"auto", DataKind::kAuto},
                                                                           {"text", DataKind::kText},
                                                                           {"text_rows", DataKind::kTextRows},
                                                                           {"messages", DataKind::kMessages},
                                                                           {"sharegpt", DataKind::kShareGpt},
                                                                           {"instruction", DataKind::kInstruction},
                                                                           {"completion", DataKind::kCompletion},
                                                                           {"preference", DataKind::kPreference},
                                                                           {"ranked", DataKind::kRanked},
                                                                           {"tokens", DataKind::kTokens},
                                                                           {"teacher_tokens", DataKind::kTeacherTokens}}};
constexpr std::array<std::pair<std::string_view, OverLong>, 3> kOverLong = {
    {{"drop", OverLong::kDrop}, {"truncate", OverLong::kTruncate}, {"error", OverLong::kError}}};

template <typename Table>
auto find(const Table& table, std::string_view name) -> std::optional<decltype(table[0].second)> {
  for (const auto& [known, value] : table) {
    if (known == name) return value;
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string_view> data_kinds() {
  std::vector<std::string_view> names;
  for (const auto& [name, kind] : kKinds) names.push_back(name);
  return names;
}

std::string_view name_of(DataKind kind) { return kKinds[static_cast<std::size_t>(kind)].first; }

std::optional<DataKind> data_kind_from_name(std::string_view name) { return find(kKinds, name); }
std::optional<OverLong> over_long_from_name(std::string_view name) { return find(kOverLong, name); }

}  // namespace puna
