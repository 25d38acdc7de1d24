// SPDX-License-Identifier: Apache-2.0
// Rows moved, looked up and added on the CPU. None of it is worth vectors of its own.
#include "kernels/rows.h"

#include <algorithm>
#include <cmath>

#include "base/as_size.h"
#include "kernels/cpu/cpu_kernels.h"

namespace puna::cpu {
namespace {

constexpr std::int64_t kGrain = 1024;  // values worth a piece of their own

}  // namespace

void embed_forward(Device& device, const Tensor& embedding, std::span<const std::int32_t> tokens, float* x) {
  const std::int64_t width = embedding.shape[1];
  device.pool.split(static_cast<std::int64_t>(tokens.size()), 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) decode_row(embedding, tokens[as_size(t)], x + t * width);
  });
}

// Threads own columns, so that a row that several tokens share gets its sums in order.
void embed_backward(Device& device, std::span<const std::int32_t> tokens, const float* dx, std::int64_t width, float* dembedding) {
  device.pool.split(width, 64, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      float* const row = dembedding + tokens[t] * width;
      const float* const from = dx + static_cast<std::int64_t>(t) * width;
      for (std::int64_t i = begin; i < end; ++i) row[i] += from[i];
    }
  });
}

void gather_rows(Device&, const float* x, std::span<const std::int32_t> rows, std::int64_t width, float* y) {
  for (std::size_t i = 0; i < rows.size(); ++i) {  // they ascend, so in place none is overwritten before it is moved
    const float* const from = x + rows[i] * width;
    float* const to = y + static_cast<std::int64_t>(i) * width;
    if (from != to) std::copy_n(from, width, to);
  }
}

void scatter_add_rows(Device& device, const float* y, std::span<const std::int32_t> rows, std::int64_t width, float* x) {
  device.pool.split(static_cast<std::int64_t>(rows.size()), 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* const to = x + rows[as_size(i)] * width;
      for (std::int64_t d = 0; d < width; ++d) to[d] += y[i * width + d];
    }
  });
}

void add_strided(Device& device, float* y, std::int64_t stride, const float* delta, std::int64_t rows, std::int64_t width) {
  device.pool.split(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t n = 0; n < width; ++n) y[t * stride + n] += delta[t * width + n];
    }
  });
}

void scale_values(Device& device, float* x, std::int64_t count, float scale) {
  device.pool.split(count, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) x[i] *= scale;
  });
}

void arg_max_rows(Device& device, const float* x, std::int64_t rows, std::int64_t width, const ArgMax& largest) {
  device.pool.split(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* const row = x + r * width;
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < width; ++i) {
        if (row[i] > row[best] || (std::isnan(row[best]) && !std::isnan(row[i]))) best = i;
      }
      largest.places[r] = static_cast<std::int32_t>(best);
      largest.values[r] = row[best];
    }
  });
}

void round_values(Device& device, std::span<const float> values, Format format, std::byte* rounded) {
  const FormatInfo& row = info(format);
  device.pool.split(static_cast<std::int64_t>(values.size()), kGrain, [&](std::int64_t begin, std::int64_t end, int) {
    row.encode(values.data() + begin, rounded + begin * row.block_bytes, end - begin);
  });
}

}  // namespace puna::cpu
