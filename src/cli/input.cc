// SPDX-License-Identifier: Apache-2.0
#include "cli/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <system_error>

#include "base/error.h"
#include "cli/output.h"

namespace puna {
namespace {

std::string read_descriptor(int descriptor, const std::string& name) {
  std::string bytes;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t size = ::read(descriptor, buffer, sizeof buffer);
    if (size == 0) return bytes;
    if (size > 0) bytes.append(buffer, static_cast<std::size_t>(size));
    if (size < 0 && errno != EINTR) fail(ErrorKind::kBadInput, name, "cannot read: {}", std::strerror(errno));
  }
}

}  // namespace

std::string read_file(const std::string& path) {
  if (path == "-") return read_standard_input();
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(ErrorKind::kNotFound, path, "cannot open the file: {}", std::strerror(errno));
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } closer{descriptor};
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) {
    fail(ErrorKind::kBadInput, path, "this is a folder, expected a file");
  }
  return read_descriptor(descriptor, path);
}

std::string read_standard_input() {
  if (input_is_terminal()) write_note("puna: reading from the terminal; end with Ctrl-D on an empty line");
  return read_descriptor(STDIN_FILENO, "standard input");
}

Json read_json_file(const std::string& path) { return parse_json(read_file(path), path == "-" ? "standard input" : path); }

std::string read_text_source(const TextSource& source) {
  if (source.given && !source.file.empty())
    fail(ErrorKind::kUsage, "--file", "a text and --file were both given: give one of them");
  if (source.given) return source.text;
  return source.file.empty() ? read_standard_input() : read_file(source.file);
}

std::vector<Token> tokens_from_json(const Json& value, const std::string& where) {
  const bool wrapped = value.is_object() && value.contains("tokens");
  const Json& list = wrapped ? value.at("tokens") : value;
  if (!list.is_array()) fail(ErrorKind::kBadInput, where, "expected a list of token ids, [1, 2], or {{\"tokens\": [1, 2]}}");
  std::vector<Token> tokens;
  tokens.reserve(list.size());
  for (const Json& item : list) {
    const bool fits = item.is_number_integer() && item.get<std::int64_t>() >= 0 &&
                      item.get<std::int64_t>() <= std::numeric_limits<std::int32_t>::max();
    if (!fits)
      fail(ErrorKind::kBadInput, where, "token {} is {}, expected an id, a whole number from 0", tokens.size(), dump_json(item));
    tokens.push_back(static_cast<Token>(item.get<std::int32_t>()));
  }
  return tokens;
}

Json tokens_to_json(const std::vector<Token>& tokens) {
  Json list = Json::array();
  for (const Token token : tokens) list.push_back(id(token));
  return list;
}

std::vector<std::int64_t> parse_positions(std::string_view text, std::int64_t limit, const std::string& flag) {
  std::vector<std::int64_t> positions;
  while (true) {
    const std::string_view word = text.substr(0, text.find(','));
    std::int64_t position = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), position);
    if (error != std::errc() || end != word.data() + word.size() || position < 0) {
      fail(ErrorKind::kUsage, flag, "'{}' is not a position: give whole numbers from 0 with commas between them, 0,63,8192", word);
    }
    if (position >= limit)
      fail(ErrorKind::kUsage, flag, "position {} is past the last of {} tokens ({})", position, limit, limit - 1);
    if (!positions.empty() && position <= positions.back()) {
      fail(ErrorKind::kUsage, flag, "position {} stands behind {}: give them in ascending order", position, positions.back());
    }
    positions.push_back(position);
    if (word.size() == text.size()) return positions;
    text.remove_prefix(word.size() + 1);
  }
}

std::vector<TextLine> text_lines(std::string_view text) {
  std::vector<TextLine> lines;
  std::int64_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) lines.push_back({line, number});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace puna
