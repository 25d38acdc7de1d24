// SPDX-License-Identifier: Apache-2.0
// `puna list`: the model inside the program, and what is in the cache.
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "hub/hub_cache.h"
#include "model/built_in.h"

namespace puna {
namespace {

struct ListFlags {
  bool json = false, names = false;
};

Json to_json(const std::vector<CachedModel>& models) {
  Json list = Json::array();
  for (const CachedModel& model : models) {
    list.push_back({{"name", model.repository},
                    {"bytes", model.bytes},
                    {"kind", model.kind},
                    {"revisions", model.revisions},
                    {"path", model.path.string()}});
  }
  return list;
}

void list_models(const ListFlags& flags) {
  const std::filesystem::path root = hub_cache_root();
  std::vector<CachedModel> models = cached_models(root);
  const bool none_cached = models.empty();
  models.insert(models.begin(),
                {kBuiltInName, "gguf", {}, static_cast<std::int64_t>(built_in_gguf().size()), std::filesystem::path(kBuiltInPath)});
  if (flags.json) return write_json({{"models", to_json(models)}});
  std::size_t width = 0;
  for (const CachedModel& model : models) width = std::max(width, model.repository.size());
  std::string text;
  for (const CachedModel& model : models) {
    const std::string size = human_bytes(static_cast<std::uint64_t>(model.bytes));
    const char* place = model.repository == kBuiltInName ? ", inside the program" : "";
    text += flags.names ? model.repository + "\n"
                        : fmt::format("{:<{}}  {:>10}  {}{}\n", model.repository, width, size, model.kind, place);
  }
  write_text(text);
  if (none_cached) write_note("puna: no models in " + root.string() + ": run puna pull org/name");
}

}  // namespace

VerbAction declare_list(Command& command) {
  const auto flags = std::make_shared<ListFlags>();
  command.flag("-q,--names", &flags->names, "print the names alone, one on a line");
  add_json(command, flags->json);
  return [flags] { list_models(*flags); };
}

}  // namespace puna
