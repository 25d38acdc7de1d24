// SPDX-License-Identifier: Apache-2.0
// Files that training maps: what a teacher said of documents, what a reference said of answers. What is read holds together, and
// what is not is refused.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/error.h"
#include "train/data/teacher_shard.h"
#include "train/reference_log_probs.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void read_documents(const puna::TeacherShard& shard) {
  if (shard.documents() == 0) return;  // and k is bounded by nothing
  std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.top_k()));
  std::vector<float> log_probs(ids.size());
  for (std::int64_t d = 0; d < shard.documents(); ++d) {
    const puna::TeacherShard::Document document = shard.document(d);
    require(!document.tokens.empty() && document.trained.size() == document.tokens.size() && !document.trained.front());
    std::int64_t offset = document.offset;
    for (const bool trained : document.trained) {
      if (!trained) continue;
      const float rest = shard.read_row(offset, ids.data(), log_probs.data());
      require(rest <= 0);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        require(ids[i] >= 0 && ids[i] < shard.vocabulary() && (i == 0 || ids[i] > ids[i - 1]));
        require(std::isfinite(log_probs[i]) && log_probs[i] <= 0);
      }
      offset += shard.row_bytes();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  try {
    read_documents(puna::TeacherShard(bytes, "fuzz"));
  } catch (const puna::Error& error) {
    require(error.kind() != puna::ErrorKind::kInternal);
  }
  try {
    const puna::ReferenceLogProbs answers(bytes, "fuzz");
    require(answers.fingerprint().size() == 64);
  } catch (const puna::Error& error) {
    require(error.kind() != puna::ErrorKind::kInternal);
  }
  return 0;
}
