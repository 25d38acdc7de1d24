// SPDX-License-Identifier: Apache-2.0
// `puna recipe`: the recipes that the program brings, and what a recipe can say.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "tensor/atomic_file.h"
#include "train/recipe.h"

namespace puna {
namespace {

struct RecipeFlags {
  std::string action, name, out;
  bool json = false;
};

void list_recipes(bool json) {
  Json rows = Json::array();
  std::string text;
  for (const ShippedRecipe& shipped : shipped_recipes()) {
    const std::string about = parse_recipe(shipped.text, std::string(shipped.name)).description;
    rows.push_back({{"name", shipped.name}, {"description", about}});
    text += fmt::format("{:<26} {}\n", shipped.name, about);
  }
  if (json) return write_json(rows);
  write_text(text);
}

void list_fields(bool json) {
  Recipe recipe;
  Json rows = Json::array();
  std::string text;
  const std::string defaults = recipe_text(recipe);
  for (const RecipeField& field : recipe_fields(recipe)) {
    rows.push_back({{"name", field.name}, {"about", field.about}, {"choices", field.choices}});
    text += fmt::format("{:<32} {}{}\n", field.name, field.about,
                        field.choices.empty() ? "" : fmt::format("{}({})", field.about.empty() ? "" : " ", field.choices));
  }
  if (json) return write_json(rows);
  write_text(text + "\nWhat is not given:\n\n" + defaults);
}

void check_action(const RecipeFlags& flags) {
  const std::vector<std::string> actions{"list", "show", "copy", "fields"};
  if (std::ranges::find(actions, flags.action) == actions.end())
    fail(ErrorKind::kUsage, "recipe", "'{}' is none of {}{}", flags.action, fmt::join(actions, ", "),
         did_you_mean(flags.action, actions));
  const bool lists = flags.action == "list" || flags.action == "fields";
  const std::string& surplus = lists ? flags.name : flags.action == "show" ? flags.out : std::string();
  if (!surplus.empty()) fail(ErrorKind::kUsage, "recipe", "unexpected argument '{}' behind {}", surplus, flags.action);
  if (flags.json && !lists) fail(ErrorKind::kUsage, "--json", "is for list and fields: {} has YAML", flags.action);
}

void recipe(const RecipeFlags& flags) {
  check_action(flags);
  if (flags.action == "list") return list_recipes(flags.json);
  if (flags.action == "fields") return list_fields(flags.json);
  if (flags.name.empty()) fail(ErrorKind::kUsage, "recipe", "{} which recipe? puna recipe list shows their names", flags.action);
  const auto [text, where] = read_recipe(flags.name);
  if (flags.action == "show") return write_text(text);
  const std::filesystem::path out = flags.out.empty() ? std::filesystem::path(flags.name).filename().string() + ".yaml" : flags.out;
  if (std::filesystem::exists(out)) fail(ErrorKind::kUsage, out.string(), "exists already: give another name");
  AtomicFile file(out);
  file.write(text);
  file.commit();
  write_note(fmt::format("wrote {}: edit it, then puna train {}", out.string(), out.string()));
}

}  // namespace

VerbAction declare_recipe(Command& command) {
  const auto flags = std::make_shared<RecipeFlags>();
  command.positional("ACTION", &flags->action, "list, show, copy, or fields: what a recipe can say").required = true;
  command.positional("NAME", &flags->name, "the recipe to show or copy");
  command.positional("OUT", &flags->out, "the file to copy it to (default NAME.yaml)");
  add_json(command, flags->json);
  return [flags] { recipe(*flags); };
}

}  // namespace puna
