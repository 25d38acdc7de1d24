// SPDX-License-Identifier: Apache-2.0
// Recipes from and to YAML through the lists of fields (recipe_fields.cc).
#include "train/recipe.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <type_traits>

#include "base/error.h"
#include "base/nearest.h"

namespace puna {
namespace {

// Where in which text a value stands, for messages.
struct Place {
  std::string file;
  ErrorKind kind = ErrorKind::kBadInput;

  std::string at(const YAML::Node& node) const {
    const YAML::Mark mark = node.Mark();
    return kind == ErrorKind::kUsage || mark.line < 0 ? file : fmt::format("{}:{}", file, mark.line + 1);
  }
  template <typename... Args>
  [[noreturn]] void refuse(const YAML::Node& node, fmt::format_string<Args...> text, Args&&... args) const {
    throw Error(kind, at(node), fmt::format(text, std::forward<Args>(args)...));
  }
};

std::string_view type_name(const FieldValue& value) {
  struct Name {
    std::string_view operator()(std::string*) const { return "text"; }
    std::string_view operator()(double*) const { return "a number"; }
    std::string_view operator()(std::int64_t*) const { return "a whole number"; }
    std::string_view operator()(int*) const { return "a whole number"; }
    std::string_view operator()(bool*) const { return "true or false"; }
    std::string_view operator()(std::vector<std::string>*) const { return "a list of texts"; }
    std::string_view operator()(std::vector<double>*) const { return "a list of numbers"; }
    std::string_view operator()(std::vector<DataRecipe>*) const { return "a list of data"; }
    std::string_view operator()(std::vector<StageRecipe>*) const { return "a list of stages"; }
  };
  return std::visit(Name{}, value);
}

// "4096", "1e6" where it is whole, "16_384".
bool parse_number(std::string text, double& value) {
  std::erase(text, '_');
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

bool parse_scalar(const std::string& text, std::string& value) {
  value = text;
  return true;
}
bool parse_scalar(const std::string& text, double& value) { return parse_number(text, value); }
bool parse_scalar(const std::string& text, std::int64_t& value) {
  double number = 0;
  if (!parse_number(text, number) || number != std::floor(number) || std::abs(number) > 0x1p53) return false;
  value = static_cast<std::int64_t>(number);
  return true;
}
bool parse_scalar(const std::string& text, int& value) {
  std::int64_t wide = 0;
  if (!parse_scalar(text, wide) || std::abs(wide) > 1'000'000'000) return false;
  value = static_cast<int>(wide);
  return true;
}
bool parse_scalar(const std::string& text, bool& value) {
  value = text == "true";
  return value || text == "false";
}

std::vector<RecipeField> fields_of(DataRecipe& data) { return data_fields(data); }
std::vector<RecipeField> fields_of(StageRecipe& stage) { return stage_fields(stage); }

void read_map(const YAML::Node& map, const std::string& prefix, std::span<const RecipeField> fields, const Place& place);

template <typename T>
void read_value(const YAML::Node& node, const RecipeField& field, const Place& place, T& value) {
  if (!node.IsScalar() || !parse_scalar(node.Scalar(), value))
    place.refuse(node, "{} is {}, expected {}", field.name, node.IsScalar() ? "'" + node.Scalar() + "'" : "a list or a map",
                 type_name(field.value));
  if constexpr (std::is_same_v<T, std::string>) {
    if (field.choices.empty()) return;
    std::vector<std::string> names;
    for (std::string_view rest = field.choices; !rest.empty();) {
      names.emplace_back(rest.substr(0, rest.find('|')));
      rest.remove_prefix(std::min(names.back().size() + 1, rest.size()));
    }
    if (std::ranges::find(names, value) == names.end())
      place.refuse(node, "{} is '{}', expected {}{}", field.name, value, fmt::join(names, ", "), did_you_mean(value, names));
  }
}

template <typename T>
void read_value(const YAML::Node& node, const RecipeField& field, const Place& place, std::vector<T>& values) {
  values.clear();
  if (node.IsNull()) return;
  const auto read_one = [&](const YAML::Node& item) {
    T& value = values.emplace_back();
    if constexpr (std::is_same_v<T, DataRecipe> || std::is_same_v<T, StageRecipe>) {
      const std::vector<RecipeField> fields = fields_of(value);
      if (item.IsMap())
        read_map(item, "", fields, place);
      else
        read_value(item, fields.front(), place, *std::get<std::string*>(fields.front().value));  // a bare path or name
    } else {
      read_value(item, field, place, value);
    }
  };
  if (node.IsSequence()) {
    for (const YAML::Node& item : node) read_one(item);
  } else {
    read_one(node);
  }
}

void read_field(const YAML::Node& node, const RecipeField& field, const Place& place) {
  std::visit([&](auto* value) { read_value(node, field, place, *value); }, field.value);
}

const RecipeField* find_field(std::span<const RecipeField> fields, std::string_view name) {
  const auto found = std::ranges::find(fields, name, &RecipeField::name);
  return found == fields.end() ? nullptr : &*found;
}

bool is_section(std::span<const RecipeField> fields, const std::string& name) {
  return std::ranges::any_of(fields, [&](const RecipeField& field) { return field.name.starts_with(name + "."); });
}

[[noreturn]] void refuse_key(const YAML::Node& key, const std::string& name, std::span<const RecipeField> fields,
                             const Place& place) {
  std::vector<std::string> names;
  for (const RecipeField& field : fields) {
    names.emplace_back(field.name);
    if (const auto dot = field.name.find('.'); dot != std::string_view::npos) names.emplace_back(field.name.substr(0, dot));
  }
  place.refuse(key, "there is no key '{}'{}", name, did_you_mean(name, names));
}

void read_map(const YAML::Node& map, const std::string& prefix, std::span<const RecipeField> fields, const Place& place) {
  std::vector<std::string> seen;
  for (const auto& entry : map) {
    if (!entry.first.IsScalar()) place.refuse(entry.first, "a key is a list or a map, expected a name");
    const std::string name = prefix + entry.first.Scalar();
    if (std::ranges::find(seen, name) != seen.end()) place.refuse(entry.first, "the key '{}' is there twice", name);
    seen.push_back(name);
    if (const RecipeField* field = find_field(fields, name)) {
      read_field(entry.second, *field, place);
    } else if (is_section(fields, name)) {
      if (entry.second.IsNull()) continue;
      if (!entry.second.IsMap()) place.refuse(entry.second, "'{}' is a section, expected keys below it", name);
      read_map(entry.second, name + ".", fields, place);
    } else {
      refuse_key(entry.first, name, fields, place);
    }
  }
}

YAML::Node load_yaml(std::string_view text, const Place& place) {
  try {
    return YAML::Load(std::string(text));
  } catch (const YAML::Exception& error) {
    throw Error(place.kind, fmt::format("{}:{}", place.file, error.mark.line + 1), fmt::format("is not YAML: {}", error.msg));
  }
}

// "data.0.weight": the element's field, where the element exists.
template <typename T>
bool override_element(std::vector<T>& elements, std::string_view path, const YAML::Node& value, const Place& place) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(path.data(), path.data() + path.size(), index);
  if (error != std::errc() || end == path.data() + path.size() || *end != '.') return false;
  if (index >= elements.size())
    place.refuse(value, "there is no entry {}: the recipe has {} (counted from 0)", index, elements.size());
  const std::vector<RecipeField> fields = fields_of(elements[index]);
  const std::string_view name(end + 1, static_cast<std::size_t>(path.data() + path.size() - end - 1));
  const RecipeField* field = find_field(fields, name);
  if (!field) refuse_key(value, std::string(name), fields, place);
  read_field(value, *field, place);
  return true;
}

class Writer {
 public:
  void field(const RecipeField& field, const std::string& indent) {
    const std::size_t dot = field.name.find('.');
    const std::string section(dot == std::string_view::npos ? "" : field.name.substr(0, dot));
    const std::string name(dot == std::string_view::npos ? field.name : field.name.substr(dot + 1));
    if (!section.empty() && section != section_) text_ += fmt::format("{}{}:\n", indent, section);
    section_ = section;
    text_ += fmt::format("{}{}{}:", indent, section.empty() ? "" : "  ", name);
    std::visit([&](const auto* value) { write(*value, indent); }, field.value);
  }
  std::string text() && { return std::move(text_); }

 private:
  // JSON's quoting is YAML's.
  static std::string quoted(const std::string& value) {
    YAML::Emitter emitter;
    emitter << YAML::DoubleQuoted << value;
    return emitter.c_str();
  }
  void write(const std::string& value, const std::string&) { text_ += fmt::format(" {}\n", quoted(value)); }
  void write(double value, const std::string&) { text_ += fmt::format(" {}\n", value); }
  void write(std::int64_t value, const std::string&) { text_ += fmt::format(" {}\n", value); }
  void write(int value, const std::string&) { text_ += fmt::format(" {}\n", value); }
  void write(bool value, const std::string&) { text_ += value ? " true\n" : " false\n"; }
  void write(const std::vector<std::string>& values, const std::string&) {
    std::vector<std::string> items;
    for (const std::string& value : values) items.push_back(quoted(value));
    text_ += fmt::format(" [{}]\n", fmt::join(items, ", "));
  }
  void write(const std::vector<double>& values, const std::string&) { text_ += fmt::format(" [{}]\n", fmt::join(values, ", ")); }
  template <typename T>
  void write(const std::vector<T>& elements, const std::string& indent) {
    text_ += elements.empty() ? " []\n" : "\n";
    for (T element : elements) {
      const std::size_t start = text_.size();
      for (const RecipeField& each : fields_of(element)) field(each, indent + "    ");
      text_[start + indent.size() + 2] = '-';
    }
  }

  std::string text_, section_;
};

std::string read_file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (!file) fail(ErrorKind::kNotFound, path.string(), "the recipe cannot be read");
  return text;
}

}  // namespace

Recipe parse_recipe(std::string_view yaml, const std::string& where) {
  const Place place{where};
  const YAML::Node root = load_yaml(yaml, place);
  Recipe recipe;
  if (root.IsNull()) return recipe;
  if (!root.IsMap()) fail(ErrorKind::kBadInput, where, "a recipe is a map of keys (see puna recipe show)");
  read_map(root, "", recipe_fields(recipe), place);
  return recipe;
}

void override_recipe(Recipe& recipe, std::string_view assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string name(assignment.substr(0, equals));
  const Place place{"--" + name, ErrorKind::kUsage};
  if (equals == std::string_view::npos) fail(ErrorKind::kUsage, place.file, "has no value: write --{}=VALUE", name);
  const YAML::Node value = load_yaml(assignment.substr(equals + 1), place);
  const std::vector<RecipeField> fields = recipe_fields(recipe);
  if (const RecipeField* field = find_field(fields, name)) {
    // An empty value is an empty text.
    return read_field(value.IsNull() ? YAML::Node("") : value, *field, place);
  }
  const auto element = [&](std::string_view list, auto& elements) {
    return name.starts_with(list) && override_element(elements, std::string_view(name).substr(list.size()), value, place);
  };
  if (element("data.", recipe.data) || element("validation.", recipe.validation) || element("stages.", recipe.stages)) return;
  refuse_key(value, name, fields, place);
}

std::string recipe_text(const Recipe& recipe) {
  Recipe copy = recipe;
  Writer writer;
  for (const RecipeField& field : recipe_fields(copy)) writer.field(field, "");
  return std::move(writer).text();
}

std::pair<std::string, std::string> read_recipe(const std::string& name_or_path) {
  std::vector<std::string> names;
  for (const ShippedRecipe& shipped : shipped_recipes()) {
    if (shipped.name == name_or_path) return {std::string(shipped.text), name_or_path};
    names.emplace_back(shipped.name);
  }
  if (std::filesystem::is_regular_file(name_or_path)) return {read_file_text(name_or_path), name_or_path};
  fail(ErrorKind::kNotFound, name_or_path, "is neither a file nor a recipe of puna recipe list{}",
       did_you_mean(name_or_path, names));
}

}  // namespace puna
