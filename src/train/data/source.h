// SPDX-License-Identifier: Apache-2.0
// The files of one DataSource as one list of rows, and how a row becomes an example or a reason why not.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/data/data_options.h"
#include "train/data/data_report.h"
#include "train/data/encode_example.h"
#include "train/data/example.h"
#include "train/data/row_file.h"

namespace puna {

class Source {
 public:
  // Throws kNotFound, or kBadInput where the files hold no rows.
  Source(const DataSource& given, const DataOptions& options);

  const std::string& path() const { return path_; }
  const std::vector<RowFile>& files() const { return files_; }
  std::int64_t rows() const { return first_rows_.back(); }
  std::int64_t bytes() const;
  std::string where(std::int64_t row) const;  // row in [0, rows())

  // Throws RowError; other errors are not the row's.
  Example read(std::int64_t row, const ExampleEncoder& encoder, bool plain_strings) const;

 private:
  struct Place {
    const RowFile& file;
    std::int64_t row;
  };
  Place place(std::int64_t row) const;

  std::string path_;
  std::vector<RowFile> files_;
  std::vector<std::int64_t> first_rows_;  // [files + 1]
};

}  // namespace puna
