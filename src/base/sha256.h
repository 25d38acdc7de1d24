// SPDX-License-Identifier: Apache-2.0
// SHA-256 of files and bytes as 64 lower-case hexadecimal digits (OpenSSL underneath).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace puna {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::span<const std::byte> bytes);
  std::string finish();  // once

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace puna
