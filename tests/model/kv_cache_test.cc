// SPDX-License-Identifier: Apache-2.0
#include "model/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelConfig cache_config() {
  ModelConfig config;
  config.layers = 3;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_width = 32;
  return config;
}

template <typename Call>
std::string refusal(ErrorKind kind, Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "nothing was refused";
}

TEST(KvCache, CountsBytesInWholePages) {
  const ModelConfig config = cache_config();
  EXPECT_EQ(KvCache::bytes(config, Format::kF16, 0), 0);
  EXPECT_EQ(KvCache::bytes(config, Format::kF16, 64), 3 * 2 * 2 * 64 * 32 * 2);  // L, keys and values, G, positions, E, bytes
  EXPECT_EQ(KvCache::bytes(config, Format::kF16, 65), 2 * KvCache::bytes(config, Format::kF16, 64));
  EXPECT_EQ(KvCache::bytes(config, Format::kF32, 64), 2 * KvCache::bytes(config, Format::kF16, 64));
  EXPECT_EQ(KvCache::bytes(config, Format::kQ8_0, 64), 3 * 2 * 2 * 64 * 34);
  EXPECT_EQ(KvCache(config, Format::kF16, 130).capacity(), 192);
}

TEST(KvCache, TakesTheLowestFreePageFirst) {
  KvCache cache(cache_config(), Format::kF16, 6 * kPagePositions);
  const int a = cache.add_sequence(), b = cache.add_sequence();
  cache.grow(a, 1);
  cache.grow(b, 65);
  cache.grow(a, 64);  // still one page
  EXPECT_THAT(cache.pages(a), ElementsAre(0));
  EXPECT_THAT(cache.pages(b), ElementsAre(1, 2));
  cache.grow(a, 130);
  EXPECT_THAT(cache.pages(a), ElementsAre(0, 3, 4));
  cache.remove_sequence(b);
  cache.truncate(a, 65);
  EXPECT_EQ(cache.length(a), 65);
  EXPECT_THAT(cache.pages(a), ElementsAre(0, 3));
  cache.grow(a, 256);  // 1, 2 and 4 came back
  EXPECT_THAT(cache.pages(a), ElementsAre(0, 3, 1, 2));
  EXPECT_EQ(cache.add_sequence(), b) << "the number of a removed sequence is used again";
  EXPECT_EQ(cache.length(b), 0);
}

TEST(KvCache, AFullPoolChangesNothing) {
  KvCache cache(cache_config(), Format::kF16, 4 * kPagePositions);
  const int a = cache.add_sequence(), b = cache.add_sequence();
  cache.grow(a, 100);
  cache.grow(b, 64);
  EXPECT_THAT(
      refusal(ErrorKind::kNoRoom, [&] { cache.grow(b, 193); }),
      HasSubstr("[kv cache] 129 more positions were asked for after the 64 of this sequence, and 64 of the cache's 256 are free"));
  EXPECT_EQ(cache.length(b), 64);
  EXPECT_EQ(cache.pages(b).size(), 1u);
  cache.grow(b, 128);
  cache.grow(a, 128);
  EXPECT_THAT(refusal(ErrorKind::kNoRoom, [&] { cache.grow(a, 129); }), HasSubstr("0 of the cache's 256 are free"));
}

TEST(KvCache, PagesNeverOverlapUnderRandomUse) {
  KvCache cache(cache_config(), Format::kQ8_0, 20 * kPagePositions);
  std::vector<int> sequences;
  for (std::uint64_t step = 0; step < 2000; ++step) {
    const std::uint64_t choice = random_bits(1, 1, step) % 4, amount = random_bits(1, 2, step) % 300;
    const std::uint64_t which = sequences.empty() ? 0 : random_bits(1, 3, step) % sequences.size();
    if (sequences.empty() || (choice == 0 && sequences.size() < 5)) {
      sequences.push_back(cache.add_sequence());
    } else if (choice == 1) {
      cache.remove_sequence(sequences[which]);
      sequences.erase(sequences.begin() + static_cast<std::ptrdiff_t>(which));
    } else if (choice == 2) {
      cache.truncate(sequences[which], std::min<std::int64_t>(cache.length(sequences[which]), static_cast<std::int64_t>(amount)));
    } else {
      try {
        cache.grow(sequences[which], cache.length(sequences[which]) + static_cast<std::int64_t>(amount));
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::kNoRoom);
      }
    }
    std::set<std::int32_t> seen;
    for (const int sequence : sequences) {
      ASSERT_EQ(static_cast<std::int64_t>(cache.pages(sequence).size()), (cache.length(sequence) + 63) / 64);
      for (const std::int32_t page : cache.pages(sequence)) {
        ASSERT_TRUE(page >= 0 && page < 20 && seen.insert(page).second) << "step " << step << " page " << page;
      }
    }
  }
}

TEST(KvCache, PagesOfSeveralOwnersAreFreeWhenTheLastLetsGo) {
  KvCache cache(cache_config(), Format::kF16, 4 * kPagePositions);
  const int a = cache.add_sequence();
  cache.grow(a, 150);
  const int b = cache.add_sequence();
  cache.begin_with(b, cache.pages(a).first(2));
  EXPECT_EQ(cache.length(b), 128);
  EXPECT_EQ(cache.pages_to_grow(b, 130), 1);
  cache.grow(b, 130);
  EXPECT_THAT(cache.pages(b), ElementsAre(0, 1, 3));
  cache.hold(0);
  EXPECT_EQ(cache.owners(0), 3);
  cache.remove_sequence(a);
  EXPECT_EQ(cache.free_pages(), 1) << "only the page that was a's alone";
  EXPECT_THAT(refusal(ErrorKind::kInternal, [&] { cache.truncate(b, 10); }), HasSubstr("a page that others read"));
  cache.remove_sequence(b);
  EXPECT_EQ(cache.free_pages(), 3);
  cache.release(0);
  EXPECT_EQ(cache.free_pages(), 4);
  EXPECT_THAT(refusal(ErrorKind::kInternal, [&] { cache.release(0); }), HasSubstr("belongs to nobody"));
}

TEST(KvCache, LayersLieApartAndEveryByteIsThere) {
  const ModelConfig config = cache_config();
  KvCache cache(config, Format::kF16, 2 * kPagePositions);
  const auto pool = static_cast<std::size_t>(KvCache::bytes(config, Format::kF16, 128) / 6);
  std::set<std::byte*> starts;
  for (std::int64_t l = 0; l < 3; ++l) {
    const KvLayer layer = cache.layer(l);
    EXPECT_EQ(layer.kv_heads, 2);
    EXPECT_EQ(layer.head_width, 32);
    for (std::byte* start : {layer.keys, layer.values}) {
      std::fill_n(start, pool, std::byte{1});  // a sanitizer would see a step too far
      starts.insert(start);
    }
  }
  ASSERT_EQ(starts.size(), 6u);
  for (auto next = std::next(starts.begin()); next != starts.end(); ++next) {
    EXPECT_EQ(*next - *std::prev(next), static_cast<std::ptrdiff_t>(pool));
  }
}

TEST(KvCache, RefusesWhatItCannotHold) {
  ModelConfig config = cache_config();
  config.head_width = 80;
  EXPECT_THAT(refusal(ErrorKind::kUnsupported, [&] { KvCache(config, Format::kQ8_0, 64); }),
              HasSubstr("[kv cache] heads of 80 values do not split into the blocks of 32 of q8_0: use f16"));
  EXPECT_THAT(refusal(ErrorKind::kUnsupported, [&] { KvCache(config, Format::kQ4_K, 64); }),
              HasSubstr("cannot be kept in q4_k on the CPU: use f32, f16 or q8_0"));
  EXPECT_THAT(refusal(ErrorKind::kNoRoom, [&] { KvCache(config, Format::kF16, std::int64_t{1} << 52); }),
              HasSubstr("ask for fewer"));
}

TEST(KvCache, RefusesWrongNumbers) {
  KvCache cache(cache_config(), Format::kF32, 64);
  const int a = cache.add_sequence();
  cache.grow(a, 10);
  const auto kind = ErrorKind::kInternal;
  EXPECT_THAT(refusal(kind, [&] { cache.grow(a + 1, 5); }), HasSubstr("there is no sequence 1"));
  EXPECT_THAT(refusal(kind, [&] { cache.grow(a, 9); }), HasSubstr("sequence 0 of 10 positions cannot grow to 9"));
  EXPECT_THAT(refusal(kind, [&] { cache.truncate(a, 11); }), HasSubstr("cannot be cut to 11"));
  EXPECT_THAT(refusal(kind, [&] { cache.layer(3); }), HasSubstr("layer 3 of 3"));
  cache.remove_sequence(a);
  EXPECT_THAT(refusal(kind, [&] { cache.length(a); }), HasSubstr("there is no sequence 0"));
}

}  // namespace
}  // namespace puna
