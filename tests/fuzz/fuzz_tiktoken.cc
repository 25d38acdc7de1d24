// SPDX-License-Identifier: Apache-2.0
// Rank files from outside; and, because few mutations keep all 256 bytes, the same lines behind a complete set of single bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"

namespace {

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) bits = (bits << 8) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kDigits[(bits >> (18 - 6 * k)) & 63] : '=';
  }
  return text;
}

// The single bytes, then pieces of the input as tokens of two to five bytes.
std::string ranks_from(std::string_view bytes) {
  std::string file;
  int rank = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    file += base64(std::string_view(&c, 1)) + " " + std::to_string(rank++) + "\n";
  }
  for (std::size_t at = 0; at + 1 < bytes.size() && rank < 400; at += 5) {
    const std::size_t length = 2 + static_cast<unsigned char>(bytes[at]) % 4;
    file += base64(bytes.substr(at, length)) + " " + std::to_string(rank++) + "\n";
  }
  return file;
}

void try_file(std::string_view file, std::string_view text) {
  try {
    const auto tokenizer = puna::tokenizer_from_tiktoken(file, "fuzz");
    if (tokenizer->decode(tokenizer->encode(text)) != text) std::abort();
  } catch (const puna::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try_file(bytes, bytes);
  try_file(ranks_from(bytes.substr(0, size / 2)), bytes);
  return 0;
}
