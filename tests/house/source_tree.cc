// SPDX-License-Identifier: Apache-2.0
#include "house/source_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <fstream>
#include <functional>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

namespace puna::house {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kSources = {".cc", ".h"};
constexpr std::size_t kMostLines = 800;

bool is_foreign(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return name == "build" || name == "node_modules" || (name.size() > 1 && name[0] == '.' && name != ".ci");
}

// "kernels" for "src/kernels/cpu/dot.cc"; "" for a file directly in src/.
std::string folder_of(const std::string& file) {
  const fs::path path(file);
  const auto part = std::next(path.begin());
  return std::next(part) == path.end() ? "" : part->string();
}

struct Include {
  std::string from, to;  // relative to the root
  std::size_t line;
};

std::vector<Include> includes(const fs::path& root, const std::string& folder) {
  static const std::regex pattern(R"(^\s*#\s*include\s*"([^"]+)\")");
  std::vector<Include> found;
  for (const std::string& file : files_below(root, folder, kSources)) {
    const auto lines = lines_of(root / file);
    for (std::size_t i = 0; i < lines.size(); ++i) {
      std::smatch match;
      if (std::regex_search(lines[i], match, pattern)) found.push_back({file, "src/" + match[1].str(), i + 1});
    }
  }
  return found;
}

// Folder -> the folders that CMake links to it: the FLOORS of its puna_folder line.
std::map<std::string, std::set<std::string>> linked_floors(const fs::path& root) {
  static const std::regex pattern(R"(^puna_folder\((\w+)(?:\s+FLOORS((?:\s+[a-z_]+)+))?)");
  std::map<std::string, std::set<std::string>> linked;
  for (const std::string& line : lines_of(root / "src" / "CMakeLists.txt")) {
    std::smatch match;
    if (!std::regex_search(line, match, pattern)) continue;
    std::istringstream names(match[2].str());
    std::set<std::string>& below = linked[match[1].str()];
    for (std::string name; names >> name;) below.insert(name);
  }
  return linked;
}

Complaints compare_folders(const fs::path& root, const std::map<std::string, int>& table) {
  Complaints complaints;
  const auto linked = linked_floors(root);
  for (const auto& [folder, floor] : table) {
    if (!fs::is_directory(root / "src" / folder))
      complaints.push_back(fmt::format("docs/ARCHITECTURE.md: there is no src/{}/", folder));
    if (!linked.contains(folder)) {
      complaints.push_back(fmt::format("src/CMakeLists.txt: puna_folder({}) is missing", folder));
      continue;
    }
    for (const std::string& below : linked.at(folder)) {
      if (table.contains(below) && table.at(below) < floor) continue;
      complaints.push_back(fmt::format("src/CMakeLists.txt: {} links {}, which is not below it", folder, below));
    }
  }
  for (const auto& entry : fs::directory_iterator(root / "src")) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && !table.contains(name)) complaints.push_back("docs/ARCHITECTURE.md: no row for src/" + name + "/");
  }
  return complaints;
}

// GitHub's anchor of a heading: lower case, letters, digits, '-' and '_' kept, spaces as '-'.
std::string anchor_of(const std::string& heading) {
  std::string anchor;
  for (const char c : heading) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || c == '_' || c == '-') anchor += static_cast<char>(std::tolower(byte));
    if (byte >= 0x80) anchor += c;
    if (c == ' ') anchor += '-';
  }
  return anchor;
}

// The page's lines outside code fences, inline code removed from each.
std::vector<std::string> prose_of(const fs::path& page) {
  static const std::regex code("`[^`]*`");
  std::vector<std::string> prose;
  bool fenced = false;
  for (const std::string& line : lines_of(page)) {
    if (line.find("```") != std::string::npos) fenced = !fenced;
    prose.push_back(fenced ? "" : std::regex_replace(line, code, ""));
  }
  return prose;
}

bool has_heading(const fs::path& page, const std::string& anchor) {
  const auto lines = lines_of(page);
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
    const std::size_t text = line.find_first_not_of('#');
    return text != 0 && text != std::string::npos && line[text] == ' ' && anchor_of(line.substr(text + 1)) == anchor;
  });
}

}  // namespace

std::vector<std::string> files_below(const fs::path& root, const std::string& folder, const std::vector<std::string>& extensions) {
  std::vector<std::string> files;
  if (!fs::is_directory(root / folder)) return files;
  for (auto entry = fs::recursive_directory_iterator(root / folder); entry != fs::recursive_directory_iterator(); ++entry) {
    if (entry->is_directory() && is_foreign(entry->path())) entry.disable_recursion_pending();
    if (!entry->is_regular_file()) continue;
    const std::string extension = entry->path().extension().string();
    if (std::find(extensions.begin(), extensions.end(), extension) == extensions.end()) continue;
    files.push_back(entry->path().lexically_relative(root).generic_string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::map<std::string, int> floors(const fs::path& root) {
  static const std::regex row(R"(^\| *(\d+) *\| *`src/(\w+)/` *\|)");
  std::map<std::string, int> table;
  for (const std::string& line : lines_of(root / "docs" / "ARCHITECTURE.md")) {
    std::smatch match;
    if (std::regex_search(line, match, row)) table[match[2].str()] = std::stoi(match[1].str());
  }
  return table;
}

Complaints check_floors(const fs::path& root) {
  const auto table = floors(root);
  if (table.empty()) return {"docs/ARCHITECTURE.md has no floor table"};
  Complaints complaints = compare_folders(root, table);
  const auto linked = linked_floors(root);
  for (const Include& include : includes(root, "src")) {
    const std::string place = fmt::format("{}:{}", include.from, include.line);
    if (!fs::exists(root / include.to)) {
      complaints.push_back(fmt::format("{}: there is no {}: paths start from src/", place, include.to));
      continue;
    }
    const std::string from = folder_of(include.from);
    const std::string to = folder_of(include.to);
    if (from == to || !table.contains(from) || !table.contains(to)) continue;
    if (table.at(to) >= table.at(from)) {
      complaints.push_back(fmt::format("{}: {} (floor {}) includes {} (floor {})", place, from, table.at(from), to, table.at(to)));
    } else if (!linked.contains(from) || !linked.at(from).contains(to)) {
      complaints.push_back(fmt::format("{}: {} includes {}, which CMake does not link to it", place, from, to));
    }
  }
  return complaints;
}

Complaints check_circles(const fs::path& root) {
  std::map<std::string, std::vector<std::string>> graph;
  for (const Include& include : includes(root, "src")) graph[include.from].push_back(include.to);
  Complaints complaints;
  std::set<std::string> finished;
  std::vector<std::string> road;
  const std::function<void(const std::string&)> visit = [&](const std::string& file) {
    if (finished.contains(file)) return;
    if (const auto start = std::find(road.begin(), road.end(), file); start != road.end()) {
      complaints.push_back(fmt::format("{} -> {}", fmt::join(start, road.end(), " -> "), file));
      return;
    }
    road.push_back(file);
    for (const std::string& next : graph[file]) visit(next);
    road.pop_back();
    finished.insert(file);
  };
  for (const std::string& file : files_below(root, "src", kSources)) visit(file);
  return complaints;
}

Complaints check_files(const fs::path& root) {
  Complaints complaints;
  std::map<std::string, std::string> headers;
  for (const std::string& file : files_below(root, "", {".cc", ".h", ".py", ".mjs", ".sh"})) {
    const auto lines = lines_of(root / file);
    const auto opening = std::min<std::size_t>(lines.size(), 3);  // behind a #! line or a shellcheck directive
    if (std::none_of(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(opening), [](const std::string& line) {
          return line.find("SPDX-License-Identifier: Apache-2.0") != std::string::npos;
        })) {
      complaints.push_back(file + ": the SPDX line is missing");
    }
    if (lines.size() > kMostLines) complaints.push_back(fmt::format("{}: {} lines, more than {}", file, lines.size(), kMostLines));
    if (!file.ends_with(".h")) continue;
    const auto [earlier, fresh] = headers.try_emplace(fs::path(file).filename().string(), file);
    if (!fresh) complaints.push_back(fmt::format("{} and {} have the same base name", earlier->second, file));
  }
  return complaints;
}

Complaints check_links(const fs::path& root) {
  static const std::regex link(R"(\]\(([^)\s]+)\))");
  Complaints complaints;
  for (const std::string& page : files_below(root, "", {".md"})) {
    const auto prose = prose_of(root / page);
    for (std::size_t i = 0; i < prose.size(); ++i) {
      for (std::sregex_iterator match(prose[i].begin(), prose[i].end(), link), end; match != end; ++match) {
        const std::string target = (*match)[1].str();
        if (target.find("://") != std::string::npos || target.starts_with("mailto:")) continue;
        const std::size_t hash = std::min(target.find('#'), target.size());
        const fs::path file = hash == 0 ? root / page : (root / page).parent_path() / target.substr(0, hash);
        if (!fs::exists(file)) {
          complaints.push_back(fmt::format("{}:{}: {} does not exist", page, i + 1, target));
        } else if (hash < target.size() && !has_heading(file, target.substr(hash + 1))) {
          complaints.push_back(fmt::format("{}:{}: {} has no such heading", page, i + 1, target));
        }
      }
    }
  }
  return complaints;
}

}  // namespace puna::house
