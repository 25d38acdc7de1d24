// SPDX-License-Identifier: Apache-2.0
// Random weights. Every 16 bytes of a matrix are one Philox word group, so any thread can fill any part. For quantized formats the
// words are the codes as they stand and only the scales are set; drawing normals and encoding them would take minutes for 8B.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "model/checkpoint.h"
#include "tensor/arena.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace puna {
namespace {

constexpr double kWeightSpread = 0.02;       // standard deviation of the weights
constexpr float kFp8RowScale = 1.0f / 1024;  // brings normal(0, 0.02) into the middle of E4M3's range
constexpr std::size_t kQuantiles = 65536;

struct Stream {
  std::uint64_t seed;
  std::uint32_t tensor;  // its number in the checkpoint

  std::array<std::uint32_t, 4> words(std::int64_t index) const {
    const auto bits = static_cast<std::uint64_t>(index);
    return philox({static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 32), tensor, 0},
                  {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  }
};

// The normal quantile at `p` (0 < p < 1), by Newton's method on the distribution function.
double normal_quantile(double p, double start) {
  double x = start;
  for (int i = 0; i < 60; ++i) {
    const double error = 0.5 * std::erfc(-x / std::sqrt(2.0)) - p;
    const double step = error / (std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi));
    x -= std::fmax(-0.5, std::fmin(0.5, step));
    if (std::fabs(step) < 1e-12) break;
  }
  return x;
}

// What a 16-bit random word stands for, already in the matrix's format: kQuantiles entries of block_bytes.
std::vector<std::byte> quantile_table(Format format) {
  const double spread = format == Format::kF8E4M3 ? kWeightSpread / kFp8RowScale : kWeightSpread;
  std::vector<float> values(kQuantiles);
  double x = -4.5;
  for (std::size_t i = 0; i < kQuantiles; ++i) {
    x = normal_quantile((static_cast<double>(i) + 0.5) / kQuantiles, x);
    values[i] = static_cast<float>(spread * x);
  }
  std::vector<std::byte> table(kQuantiles * static_cast<std::size_t>(info(format).block_bytes));
  info(format).encode(values.data(), table.data(), kQuantiles);
  return table;
}

// Values [begin, end), multiples of 8: each takes a 16-bit word.
void fill_floats(const Stream& stream, std::span<const std::byte> table, std::span<std::byte> out, std::int64_t begin,
                 std::int64_t end) {
  const std::size_t size = table.size() / kQuantiles;
  for (std::int64_t i = begin; i < end; i += 8) {
    const std::array<std::uint32_t, 4> words = stream.words(i / 8);
    for (std::int64_t j = 0; j < std::min<std::int64_t>(8, end - i); ++j) {
      const std::uint32_t word = words[static_cast<std::size_t>(j / 2)] >> (j % 2 * 16) & 0xffff;
      std::memcpy(out.data() + static_cast<std::size_t>(i + j) * size, table.data() + word * size, size);
    }
  }
}

// The standard deviation of a uniformly random code of `levels` levels.
double code_spread(double levels) { return std::sqrt((levels * levels - 1) / 12); }

std::uint16_t scale_of(double levels, double inner = 1) {
  return f16_from_f32(static_cast<float>(kWeightSpread / code_spread(levels) / inner));
}

// The middle of 0 .. levels - 1 taken off again, so that the mean is 0.
std::uint16_t minimum_of(std::uint16_t scale, double levels) {
  return f16_from_f32(static_cast<float>(-f32_from_f16(scale) * (levels - 1) / 2));
}

// A code whose range reaches further down than up has its sign drawn, so that the mean is 0.
std::uint16_t with_sign(std::uint16_t scale, std::uint16_t random) { return static_cast<std::uint16_t>(scale | (random & 0x8000)); }

// The 12 packed bytes of K blocks with all sub-block scales and minimums 32.
constexpr std::array<std::uint8_t, 12> kScales32 = {160, 160, 160, 160, 160, 160, 160, 160, 0, 0, 0, 0};

// Block scales, worked out once.
struct Scales {
  std::uint16_t d16 = scale_of(16), d32 = scale_of(32), d256 = scale_of(256);
  std::uint16_t m16 = minimum_of(d16, 16), m32 = minimum_of(d32, 32);
  std::uint16_t k16 = scale_of(16, 32), k32 = scale_of(32, 32), k64 = scale_of(64, 32);        // times sub-block scales of 32
  std::uint16_t kmin16 = minimum_of(k16, 16) & 0x7fff, kmin32 = minimum_of(k32, 32) & 0x7fff;  // taken off, so positive
};

template <typename Block>
void set_signed(void* block, std::uint16_t d) {
  static_cast<Block*>(block)->d = with_sign(d, static_cast<Block*>(block)->d);
}
template <typename Block>
void set_offset(void* block, std::uint16_t d, std::uint16_t m) {
  static_cast<Block*>(block)->d = d;
  static_cast<Block*>(block)->m = m;
}
template <typename Block>
void set_super(void* block, std::uint16_t d, std::uint16_t dmin) {
  static_cast<Block*>(block)->d = d;
  static_cast<Block*>(block)->dmin = dmin;
  std::memcpy(static_cast<Block*>(block)->scales, kScales32.data(), kScales32.size());
}

// Sets the scales of a block whose bytes are random.
void set_scales(const Scales& scales, Format format, void* block) {
  switch (format) {
    case Format::kQ8_0:
      return set_signed<BlockQ8_0>(block, scales.d256);
    case Format::kQ4_0:
      return set_signed<BlockQ4_0>(block, scales.d16);
    case Format::kQ5_0:
      return set_signed<BlockQ5_0>(block, scales.d32);
    case Format::kQ4_1:
      return set_offset<BlockQ4_1>(block, scales.d16, scales.m16);
    case Format::kQ5_1:
      return set_offset<BlockQ5_1>(block, scales.d32, scales.m32);
    case Format::kQ4_K:
      return set_super<BlockQ4_K>(block, scales.k16, scales.kmin16);
    case Format::kQ5_K:
      return set_super<BlockQ5_K>(block, scales.k32, scales.kmin32);
    case Format::kQ6_K: {
      auto* b = static_cast<BlockQ6_K*>(block);
      for (std::int8_t& scale : b->scales) scale = scale < 0 ? -32 : 32;
      b->d = scales.k64;
      return;
    }
    default:
      PUNA_CHECK(false, "random weights", "no scales for {}", info(format).name);
  }
}

// Blocks [begin, end); begin is a multiple of 8, so that parts start at a group of 16 bytes whatever the block's size.
void fill_blocks(const Stream& stream, Format format, std::span<std::byte> out, std::int64_t begin, std::int64_t end) {
  const Scales scales;
  const std::int64_t size = info(format).block_bytes;
  for (std::int64_t byte = begin * size; byte < end * size; byte += 16) {
    const std::array<std::uint32_t, 4> words = stream.words(byte / 16);
    std::memcpy(out.data() + byte, words.data(), static_cast<std::size_t>(std::min<std::int64_t>(16, end * size - byte)));
  }
  for (std::int64_t block = begin; block < end; ++block) set_scales(scales, format, out.data() + block * size);
}

class Filler {
 public:
  Filler(const ModelConfig& config, Format format, std::uint64_t seed, ThreadPool* pool)
      : config_(config), format_(format), seed_(seed), pool_(pool) {
    if (info(format).block_values == 1) table_ = quantile_table(format);
  }

  Tensor make(WeightRole role, std::int64_t layer, Arena& arena) {
    const Shape shape = weight_shape(config_, role);
    Tensor tensor{weight_name(role, &WeightRoleInfo::gguf, layer), shape.rank() == 1 ? Format::kF32 : format_, shape, {}, {}};
    if (shape.rank() == 1) {
      const std::span<float> ones = arena.take<float>(static_cast<std::size_t>(shape.count()));
      std::fill(ones.begin(), ones.end(), 1.0f);
      tensor.bytes = std::as_bytes(ones);
      return tensor;
    }
    const std::span<std::byte> bytes = arena.take(static_cast<std::size_t>(format_bytes(format_, shape.count())));
    fill({seed_, next_++}, shape.count(), bytes);
    tensor.bytes = bytes;
    if (format_ == Format::kF8E4M3) {
      const std::span<float> scales = arena.take<float>(static_cast<std::size_t>(shape.rows()));
      std::fill(scales.begin(), scales.end(), kFp8RowScale);
      tensor.row_scales = std::as_bytes(scales);
    }
    return tensor;
  }

  // Bytes make() takes for one weight.
  std::size_t bytes(WeightRole role) const {
    const Shape shape = weight_shape(config_, role);
    const Format format = shape.rank() == 1 ? Format::kF32 : format_;
    const std::size_t scales = format == Format::kF8E4M3 ? static_cast<std::size_t>(shape.rows()) * sizeof(float) : 0;
    return Arena::padded(static_cast<std::size_t>(format_bytes(format, shape.count()))) + Arena::padded(scales);
  }

 private:
  void fill(const Stream& stream, std::int64_t values, std::span<std::byte> bytes) const {
    const std::int64_t block = info(format_).block_values;
    const auto part = [&](std::int64_t begin, std::int64_t end, int) {
      block == 1 ? fill_floats(stream, table_, bytes, begin, end) : fill_blocks(stream, format_, bytes, begin, end);
    };
    pool_ == nullptr ? part(0, values / block, 0) : pool_->split(values / block, 8, part);
  }

  const ModelConfig& config_;
  Format format_;
  std::uint64_t seed_;
  ThreadPool* pool_;
  std::uint32_t next_ = 0;
  std::vector<std::byte> table_;
};

}  // namespace

std::shared_ptr<Checkpoint> random_checkpoint(const ModelConfig& config, Format format, std::uint64_t seed, ThreadPool* pool) {
  check_config(config, "random weights");
  for (const std::int64_t row : {config.width, config.heads * config.head_width, config.feed_forward}) {
    if (row % info(format).block_values == 0) continue;
    fail(ErrorKind::kUnsupported, "random weights", "rows of {} values do not divide into blocks of {} for {}", row,
         info(format).block_values, info(format).name);
  }
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->config = config;
  checkpoint->where = "random weights";
  checkpoint->weights.layers.resize(static_cast<std::size_t>(config.layers));
  Filler filler(checkpoint->config, format, seed, pool);
  std::vector<std::pair<WeightRole, std::int64_t>> slots;
  std::size_t bytes = 0;
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) {
      slots.emplace_back(row.role, layer);
      bytes += filler.bytes(row.role);
    }
  }
  auto arena = std::make_shared<Arena>(bytes, "random weights");
  for (const auto& [role, layer] : slots) {
    Tensor& tensor = checkpoint->weights.at(role, layer);
    tensor = filler.make(role, layer, *arena);
    checkpoint->weight_bytes += static_cast<std::int64_t>(tensor.bytes.size() + tensor.row_scales.size());
  }
  checkpoint->resident_bytes = checkpoint->weight_bytes;
  if (config.tied_embeddings) checkpoint->weights.output = checkpoint->weights.token_embedding;
  check_weights(checkpoint->config, checkpoint->weights, checkpoint->where, &WeightRoleInfo::gguf);
  checkpoint->owners.push_back(arena);
  return checkpoint;
}

}  // namespace puna
