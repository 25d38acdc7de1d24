// SPDX-License-Identifier: Apache-2.0
// The model inside the program: what every machine has without a download.
#include "model/built_in.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>

#include "base/mapped_file.h"
#include "model/checkpoint.h"

namespace puna {
namespace {

TEST(BuiltIn, IsTheFileOfTheRepository) {
  const MappedFile file(std::filesystem::path(PUNA_SOURCE_DIR) / "models/nano/nano.gguf");
  const std::span<const std::byte> inside = built_in_gguf();
  ASSERT_EQ(inside.size(), file.bytes().size());
  EXPECT_EQ(std::memcmp(inside.data(), file.bytes().data(), inside.size()), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(inside.data()) % 32, 0u) << "GGUF's tensors are aligned to 32 bytes";
  EXPECT_LE(inside.size(), 6'000'000u);
}

TEST(BuiltIn, OpensAsAChatModelOfFiveMillionParameters) {
  const std::shared_ptr<Checkpoint> checkpoint = open_checkpoint(kBuiltInPath);
  EXPECT_EQ(checkpoint->where, kBuiltInName);
  EXPECT_TRUE(checkpoint->files.empty());
  ASSERT_TRUE(checkpoint->prompt_format.has_value());
  EXPECT_EQ(checkpoint->prompt_format->name, "llama3.1");
  std::int64_t parameters = 0;
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && checkpoint->config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? checkpoint->config.layers : 1); ++layer)
      parameters += checkpoint->weights.at(row.role, layer).shape.count();
  }
  EXPECT_LE(parameters, 5'000'000);
  const auto tokens = checkpoint->need_tokenizer().encode("Hello! สวัสดี नमस्ते");
  EXPECT_EQ(checkpoint->need_tokenizer().decode(tokens), "Hello! สวัสดี नमस्ते");
  EXPECT_EQ(open_tokenizer(kBuiltInPath)->encode("Hello! สวัสดี नमस्ते"), tokens);
}

}  // namespace
}  // namespace puna
