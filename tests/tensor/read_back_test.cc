// SPDX-License-Identifier: Apache-2.0
// The written files in the eyes of other programs: PyTorch, NumPy and the definition of safetensors (read_back.py).
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tensor/npy.h"
#include "tensor/pth.h"
#include "tensor/safetensors.h"

namespace puna {
namespace {

constexpr int kAbsent = 77;    // what read_back.py answers without its libraries
constexpr int kNoShell = 127;  // what the shell answers without a Python

TEST(WrittenFiles, AreReadByPyTorchAndNumPy) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "read_back";
  std::filesystem::create_directory(folder);
  std::vector<float> values(12);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 2 - 1;
  std::vector<std::vector<std::byte>> data;
  for (const Format format : {Format::kF32, Format::kF16, Format::kBF16}) {
    data.emplace_back(static_cast<std::size_t>(format_bytes(format, 12)));
    info(format).encode(values.data(), data.back().data(), 12);
  }
  const auto produce = [&](std::size_t index) { return std::span<const std::byte>(data[index]); };
  write_pth(folder / "w.pth", {{"a", Format::kF32, {3, 4}}, {"b.c", Format::kF16, {12}}, {"d", Format::kBF16, {2, 2, 3}}}, produce);
  write_safetensors(folder / "w.safetensors",
                    {{"a", Format::kF32, {3, 4}}, {"b.c", Format::kF16, {12}}, {"d", Format::kBF16, {2, 2, 3}}}, {{"format", "pt"}},
                    produce);
  NpyWriter npy(folder / "w.npy", 3, 4);
  npy.append(values);
  npy.finish();

  const std::string command = "/usr/bin/python3 '" PUNA_SOURCE_DIR "/tests/tensor/read_back.py' '" + folder.string() + "'";
  const int status = std::system(command.c_str());
  std::filesystem::remove_all(folder);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == kAbsent || code == kNoShell) GTEST_SKIP() << "needs /usr/bin/python3 with numpy and torch";
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace puna
