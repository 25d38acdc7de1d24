// SPDX-License-Identifier: Apache-2.0
#include "tensor/npy.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "shared_data.h"
#include "tensor/raw_bytes.h"

namespace puna {
namespace {

TEST(Npy, WritesTheHeaderNumPyReads) {
  const auto path = std::filesystem::path(testing::TempDir()) / "rows.npy";
  NpyWriter writer(path, 2);
  const float rows[] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
  writer.append(std::span(rows).first(4));
  writer.append(std::span(rows).subspan(4));
  writer.finish();
  const std::string text = read_text(path);
  ASSERT_EQ(text.size(), 128u + sizeof(rows));
  EXPECT_EQ(text.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_TRUE(text.substr(10).starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }  "));
  EXPECT_EQ(text[127], '\n');
  EXPECT_EQ(text.substr(128), text_of(std::as_bytes(std::span(rows))));
  std::filesystem::remove(path);
}

TEST(Npy, RefusesPartsOfRowsAndMissingFolders) {
  const auto path = std::filesystem::path(testing::TempDir()) / "part.npy";
  NpyWriter writer(path, 4);
  const float values[3] = {};
  expect_error(ErrorKind::kInternal, "3 values are not whole rows of 4", [&] { writer.append(values); });
  expect_error(ErrorKind::kBadInput, "cannot write the file", [] { NpyWriter("/no/such/folder/x.npy", 4); });
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace puna
