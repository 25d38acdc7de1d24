// SPDX-License-Identifier: Apache-2.0
#include "server/page.h"

#include <zlib.h>

#include <array>
#include <cstddef>

#include "base/error.h"
#include "base/sha256.h"

// cmake/puna.cmake's puna_embed_file() makes these.
extern "C" {
extern const char puna_page_begin[], puna_page_end[];      // NOLINT: an assembler's symbols
extern const char puna_policy_begin[], puna_policy_end[];  // NOLINT
}

namespace puna {
namespace {

std::string unpack(std::string_view gzip) {
  z_stream stream{};
  PUNA_CHECK(inflateInit2(&stream, 15 + 16) == Z_OK, "page", "zlib could not be started");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(gzip.data()));  // NOLINT: zlib reads only
  stream.avail_in = static_cast<uInt>(gzip.size());
  std::string text;
  std::array<char, 1 << 16> buffer{};
  int result = Z_OK;
  while (result == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());  // NOLINT
    stream.avail_out = static_cast<uInt>(buffer.size());
    result = inflate(&stream, Z_NO_FLUSH);
    text.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  PUNA_CHECK(result == Z_STREAM_END, "page", "the embedded page is damaged");
  return text;
}

}  // namespace

std::string_view page_gzip() { return {puna_page_begin, static_cast<std::size_t>(puna_page_end - puna_page_begin)}; }

std::string_view page_policy() {
  std::string_view policy(puna_policy_begin, static_cast<std::size_t>(puna_policy_end - puna_policy_begin));
  while (policy.ends_with('\n')) policy.remove_suffix(1);
  return policy;
}

const std::string& page_html() {
  static const std::string html = unpack(page_gzip());
  return html;
}

const std::string& page_etag() {
  static const std::string tag = [] {
    Sha256 hash;
    hash.update(std::as_bytes(std::span(page_gzip())));
    return "\"" + hash.finish().substr(0, 32) + "\"";
  }();
  return tag;
}

}  // namespace puna
