// SPDX-License-Identifier: Apache-2.0
// Checks figures that come from files, and turns the several ways of stretching rotary positions into one list of frequencies.
#include "model/config.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>

#include "base/error.h"

namespace puna {
namespace {

// Far above every network there is, and small enough that no product of two of them, times the layers, leaves 64 bits.
constexpr std::int64_t kIndexLimit = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kWidthLimit = std::int64_t{1} << 20;
constexpr std::int64_t kInnerLimit = std::int64_t{1} << 24;
constexpr std::int64_t kLayerLimit = 10000;

void check_positive(std::int64_t value, const char* name, const std::string& where, std::int64_t limit = kIndexLimit) {
  if (value <= 0) fail(ErrorKind::kBadInput, where, "{} is {}, expected a positive number", name, value);
  if (value > limit) fail(ErrorKind::kUnsupported, where, "{} is {}; the largest that runs is {}", name, value, limit);
}

void check_real(double value, const char* name, const std::string& where) {
  if (!std::isfinite(value) || value <= 0) {
    fail(ErrorKind::kBadInput, where, "{} is {}, expected a positive finite number", name, value);
  }
}

void check_rope(const ModelConfig& config, const std::string& where) {
  check_real(config.rope_theta, "the RoPE base (rope_theta)", where);
  check_real(config.rope_linear_factor, "the linear RoPE scaling factor", where);
  if (config.rope_scaling) {
    const RopeScaling& scaling = *config.rope_scaling;
    check_real(scaling.factor, "the RoPE scaling factor", where);
    check_real(scaling.low_frequency_factor, "low_freq_factor", where);
    check_positive(scaling.original_context, "the original context of the RoPE scaling", where);
    if (!std::isfinite(scaling.high_frequency_factor) || scaling.high_frequency_factor <= scaling.low_frequency_factor) {
      fail(ErrorKind::kBadInput, where, "high_freq_factor is {}, expected more than low_freq_factor ({})",
           scaling.high_frequency_factor, scaling.low_frequency_factor);
    }
  }
  if (config.rope_divisors.empty()) return;
  if (static_cast<std::int64_t>(config.rope_divisors.size()) != config.head_width / 2) {
    fail(ErrorKind::kBadInput, where, "the RoPE frequency divisors (rope_freqs) are {}, expected half the head width, {}",
         config.rope_divisors.size(), config.head_width / 2);
  }
  for (const float divisor : config.rope_divisors) check_real(divisor, "a RoPE frequency divisor (rope_freqs)", where);
}

}  // namespace

void check_config(const ModelConfig& config, const std::string& where) {
  check_positive(config.layers, "the number of layers", where, kLayerLimit);
  check_positive(config.width, "the model width", where, kWidthLimit);
  check_positive(config.heads, "the number of attention heads", where);
  check_positive(config.kv_heads, "the number of key/value heads", where);
  check_positive(config.head_width, "the head width", where);
  check_positive(config.feed_forward, "the feed-forward width", where, kInnerLimit);
  check_positive(config.vocabulary, "the vocabulary size", where);
  check_positive(config.context, "the context length", where);
  if (config.heads % config.kv_heads != 0) {
    fail(ErrorKind::kBadInput, where, "{} attention heads do not divide over {} key/value heads", config.heads, config.kv_heads);
  }
  if (config.head_width % 2 != 0) {
    fail(ErrorKind::kBadInput, where, "the head width is {}, expected an even number: rotary positions turn pairs",
         config.head_width);
  }
  check_positive(config.heads * config.head_width, "heads times head width", where, kInnerLimit);
  if (!std::isfinite(config.norm_eps) || config.norm_eps < 0) {
    fail(ErrorKind::kBadInput, where, "the norm epsilon is {}, expected a small number of at least 0", config.norm_eps);
  }
  check_rope(config, where);
}

std::int64_t ModelConfig::parameters() const {
  const std::int64_t attention = 2 * heads * head_width * width + 2 * kv_heads * head_width * width;
  const std::int64_t layer = attention + 3 * feed_forward * width + 2 * width;
  return (tied_embeddings ? 1 : 2) * vocabulary * width + layers * layer + width;
}

std::vector<double> rope_frequencies(const ModelConfig& config) {
  const std::int64_t pairs = config.head_width / 2;
  std::vector<double> frequencies(static_cast<std::size_t>(pairs));  // [E / 2]
  for (std::int64_t p = 0; p < pairs; ++p) {
    double f = std::pow(config.rope_theta, -2.0 * static_cast<double>(p) / static_cast<double>(config.head_width));
    f /= config.rope_linear_factor;
    if (!config.rope_divisors.empty()) {
      f /= config.rope_divisors[static_cast<std::size_t>(p)];
    } else if (config.rope_scaling) {
      const RopeScaling& scaling = *config.rope_scaling;
      const double wavelength = 2 * std::numbers::pi / f;
      const double context = static_cast<double>(scaling.original_context);
      if (wavelength > context / scaling.low_frequency_factor) {
        f /= scaling.factor;
      } else if (wavelength >= context / scaling.high_frequency_factor) {
        const double smooth =
            (context / wavelength - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor);
        f = (1 - smooth) * f / scaling.factor + smooth * f;
      }
    }
    frequencies[static_cast<std::size_t>(p)] = f;
  }
  return frequencies;
}

std::int64_t paired_row(std::int64_t n, std::int64_t head_width, RopePairing from, RopePairing to) {
  if (from == to) return n;
  const std::int64_t half = head_width / 2, start = n / head_width * head_width, inside = n % head_width;
  const std::int64_t pair = to == RopePairing::kNeighbours ? inside / 2 : inside % half;
  const std::int64_t side = to == RopePairing::kNeighbours ? inside % 2 : inside / half;
  return start + (from == RopePairing::kNeighbours ? 2 * pair + side : side * half + pair);
}

std::optional<ModelConfig> known_shape(std::string_view name) {
  struct Row {
    std::string_view name, title;
    std::int64_t layers, width, heads, kv_heads, feed_forward;
    bool small;  // 3.2's small models: tied matrices, positions stretched by 32
  };
  static constexpr Row kRows[] = {
      {"1b", "Llama 3.2 1B", 16, 2048, 32, 8, 8192, true},          {"3b", "Llama 3.2 3B", 28, 3072, 24, 8, 8192, true},
      {"8b", "Llama 3.1 8B", 32, 4096, 32, 8, 14336, false},        {"70b", "Llama 3.1 70B", 80, 8192, 64, 8, 28672, false},
      {"405b", "Llama 3.1 405B", 126, 16384, 128, 8, 53248, false},
  };
  for (const Row& row : kRows) {
    if (row.name != name) continue;
    ModelConfig config;
    config.name = row.title;
    config.layers = row.layers;
    config.width = row.width;
    config.heads = row.heads;
    config.kv_heads = row.kv_heads;
    config.head_width = row.width / row.heads;
    config.feed_forward = row.feed_forward;
    config.vocabulary = 128256;
    config.context = 131072;
    config.rope_theta = 500000;
    config.rope_scaling = RopeScaling{.factor = row.small ? 32.0 : 8.0};
    config.tied_embeddings = row.small;
    return config;
  }
  return std::nullopt;
}

}  // namespace puna
