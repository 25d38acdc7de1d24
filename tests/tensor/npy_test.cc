// SPDX-License-Identifier: Apache-2.0
#include "tensor/npy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "expect_error.h"
#include "shared_data.h"
#include "temp_folder.h"
#include "tensor/raw_bytes.h"

namespace puna {
namespace {

TEST(Npy, WritesTheHeaderNumPyReads) {
  const TempFolder folder;
  const auto path = folder / "rows.npy";
  NpyWriter writer(path, 3, 2);
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
}

TEST(Npy, RefusesPartsOfRowsAndMissingFolders) {
  const TempFolder folder;
  NpyWriter writer(folder / "part.npy", 2, 4);
  const float values[4] = {};
  expect_error(ErrorKind::kInternal, "3 values are not whole rows of 4", [&] { writer.append(std::span(values).first(3)); });
  writer.append(values);
  expect_error(ErrorKind::kInternal, "1 rows are missing", [&] { writer.finish(); });
  expect_error(ErrorKind::kBadInput, "cannot create the file", [] { NpyWriter("/no/such/folder/x.npy", 1, 4); });
}

TEST(Npy, WhatIsNotFinishedLeavesTheFileThatWasThere) {
  const TempFolder folder;
  std::ofstream(folder / "rows.npy") << "before";
  {
    NpyWriter writer(folder / "rows.npy", 2, 1);
    const float value = 1;
    writer.append(std::span(&value, 1));
  }
  EXPECT_EQ(read_text(folder / "rows.npy"), "before");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), std::filesystem::directory_iterator()), 1);
}

}  // namespace
}  // namespace puna
