// SPDX-License-Identifier: Apache-2.0
#include "model/kv_cache.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <numeric>

#include "base/checked_math.h"
#include "base/error.h"

namespace puna {
namespace {

constexpr const char* kWhere = "kv cache";

std::int64_t pages_of(std::int64_t positions) { return positions / kPagePositions + (positions % kPagePositions != 0); }

}  // namespace

void KvCache::check_format(const ModelConfig& config, Format format, bool on_gpu) {
  constexpr std::array kOnCpu{Format::kF32, Format::kF16, Format::kQ8_0};
  constexpr std::array kOnGpu{Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3};
  if (on_gpu ? std::ranges::find(kOnGpu, format) == kOnGpu.end() : std::ranges::find(kOnCpu, format) == kOnCpu.end()) {
    fail(ErrorKind::kUnsupported, kWhere, "keys and values cannot be kept in {} on {}: use {}", info(format).name,
         on_gpu ? "a GPU" : "the CPU", on_gpu ? "f16, bf16, f8_e4m3 or f32" : "f32, f16 or q8_0");
  }
  if (config.head_width % info(format).block_values != 0) {
    fail(ErrorKind::kUnsupported, kWhere, "heads of {} values do not split into the blocks of 32 of q8_0: use f16",
         config.head_width);
  }
}

std::int64_t KvCache::bytes(const ModelConfig& config, Format format, std::int64_t positions) {
  PUNA_CHECK(positions >= 0, kWhere, "{} positions", positions);
  std::uint64_t total = static_cast<std::uint64_t>(kv_page_bytes(format, config.head_width));
  for (const std::int64_t factor : {config.layers, std::int64_t{2}, config.kv_heads, pages_of(positions)}) {
    const auto product = checked_multiply(total, static_cast<std::uint64_t>(factor));
    if (!product || *product > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      fail(ErrorKind::kNoRoom, kWhere, "{} positions take more bytes than can be counted: ask for fewer", positions);
    }
    total = *product;
  }
  return static_cast<std::int64_t>(total);
}

KvCache::KvCache(const ModelConfig& config, Format format, std::int64_t positions, const Gpu* gpu)
    : KvCache(config, format, positions, std::array{Place{gpu, config.layers}}) {}

KvCache::KvCache(const ModelConfig& config, Format format, std::int64_t positions, std::span<const Place> places)
    : format_(format), kv_heads_(config.kv_heads), head_width_(config.head_width), pages_total_(pages_of(positions)) {
  for (const Place& place : places) check_format(config, format, place.gpu != nullptr);
  ModelConfig one_layer = config;
  one_layer.layers = 1;
  pool_bytes_ = bytes(one_layer, format, positions) / 2;
  PUNA_CHECK(positions > 0, kWhere, "{} positions", positions);
  if (pages_total_ > std::numeric_limits<std::int32_t>::max()) {
    fail(ErrorKind::kNoRoom, kWhere, "{} positions are more than pages can be numbered for: ask for fewer", positions);
  }
  for (const Place& place : places) {
    ModelConfig own = config;
    own.layers = place.layers;
    const auto total = static_cast<std::size_t>(bytes(own, format, positions));
    Arena arena = place.gpu == nullptr ? Arena(total, "the KV cache") : Arena(total, "the KV cache", place.gpu->memory());
    std::byte* const data = arena.take(total).data();
    places_.push_back({std::move(arena), data, place.layers});
  }
  free_pages_.resize(static_cast<std::size_t>(pages_total_));
  std::iota(free_pages_.begin(), free_pages_.end(), 0);  // ascending numbers are a heap already
  owners_.resize(static_cast<std::size_t>(pages_total_));
}

const KvCache::Sequence& KvCache::at(int sequence) const {
  PUNA_CHECK(sequence >= 0 && static_cast<std::size_t>(sequence) < sequences_.size() &&
                 sequences_[static_cast<std::size_t>(sequence)].used,
             kWhere, "there is no sequence {}", sequence);
  return sequences_[static_cast<std::size_t>(sequence)];
}

int KvCache::add_sequence() {
  auto place = std::ranges::find(sequences_, false, &Sequence::used);
  if (place == sequences_.end()) place = sequences_.insert(place, Sequence{});
  place->pages.reserve(static_cast<std::size_t>(pages_total_));  // so that growing allocates nothing
  place->used = true;
  return static_cast<int>(place - sequences_.begin());
}

void KvCache::remove_sequence(int sequence) {
  truncate(sequence, 0);
  at(sequence).used = false;
}

void KvCache::grow(int sequence, std::int64_t length) {
  Sequence& s = at(sequence);
  PUNA_CHECK(length >= s.length, kWhere, "sequence {} of {} positions cannot grow to {}", sequence, s.length, length);
  const std::int64_t wanted = pages_to_grow(sequence, length), available = free_pages();
  if (wanted > available) {
    fail(ErrorKind::kNoRoom, kWhere,
         "{} more positions were asked for after the {} of this sequence, and {} of the cache's {} are free: give a larger "
         "--context",
         length - s.length, s.length,
         available * kPagePositions + (static_cast<std::int64_t>(s.pages.size()) * kPagePositions - s.length), capacity());
  }
  for (std::int64_t i = 0; i < wanted; ++i) {
    std::ranges::pop_heap(free_pages_, std::greater{});
    s.pages.push_back(free_pages_.back());
    owners_[static_cast<std::size_t>(free_pages_.back())] = 1;
    free_pages_.pop_back();
  }
  s.length = length;
}

void KvCache::truncate(int sequence, std::int64_t length) {
  Sequence& s = at(sequence);
  PUNA_CHECK(length >= 0 && length <= s.length, kWhere, "sequence {} of {} positions cannot be cut to {}", sequence, s.length,
             length);
  for (auto kept = static_cast<std::size_t>(pages_of(length)); s.pages.size() > kept; s.pages.pop_back()) release(s.pages.back());
  PUNA_CHECK(length % kPagePositions == 0 || owners(s.pages.back()) == 1, kWhere,
             "sequence {} cannot be cut to {}: what it would write behind that lies in a page that others read", sequence, length);
  s.length = length;
}

void KvCache::begin_with(int sequence, std::span<const std::int32_t> pages) {
  Sequence& s = at(sequence);
  PUNA_CHECK(s.length == 0, kWhere, "sequence {} has {} positions already", sequence, s.length);
  for (const std::int32_t page : pages) {
    hold(page);
    s.pages.push_back(page);
  }
  s.length = static_cast<std::int64_t>(pages.size()) * kPagePositions;
}

void KvCache::hold(std::int32_t page) {
  PUNA_CHECK(page >= 0 && page < pages_total_ && owners(page) > 0, kWhere, "page {} belongs to nobody", page);
  ++owners_[static_cast<std::size_t>(page)];
}

void KvCache::release(std::int32_t page) {
  PUNA_CHECK(page >= 0 && page < pages_total_ && owners(page) > 0, kWhere, "page {} belongs to nobody", page);
  if (--owners_[static_cast<std::size_t>(page)] > 0) return;
  free_pages_.push_back(page);
  std::ranges::push_heap(free_pages_, std::greater{});
}

std::int64_t KvCache::pages_to_grow(int sequence, std::int64_t length) const {
  return std::max<std::int64_t>(0, pages_of(length) - static_cast<std::int64_t>(at(sequence).pages.size()));
}

KvLayer KvCache::layer(std::int64_t index, int place) const {
  PUNA_CHECK(place >= 0 && static_cast<std::size_t>(place) < places_.size(), kWhere, "place {} of {}", place, places_.size());
  const Memory& memory = places_[static_cast<std::size_t>(place)];
  PUNA_CHECK(index >= 0 && index < memory.layers, kWhere, "layer {} of {}", index, memory.layers);
  std::byte* const keys = memory.data + 2 * index * pool_bytes_;
  return {format_, kv_heads_, head_width_, keys, keys + pool_bytes_};
}

}  // namespace puna
