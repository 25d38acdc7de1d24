// SPDX-License-Identifier: Apache-2.0
// Sums over the ranks of a team against a plain sum in the same order: equal bits in all ranks, however often and however many.
#include "kernels/collective.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/thread_pool.h"

namespace puna {
namespace {

// Ranks on the CPU: a thread each, and threads of their own.
struct CpuRanks {
  CpuRanks(int ranks, int threads_each) : team(ranks), threads(ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      pools.push_back(std::make_unique<ThreadPool>(threads_each));
      devices.push_back({.pool = *pools.back(), .team = &team, .rank = rank});
    }
  }

  HostTeam team;
  ThreadPool threads;
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<Device> devices;
};

std::vector<float> numbers_of_rank(int rank, std::int64_t count, std::uint64_t seed) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(random_normal(seed, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(i))));
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(SumOverRanks, IsThePlainSumInTheOrderOfRanks) {
  for (const int ranks : {1, 2, 3, 4, 5, 8}) {
    CpuRanks cpu(ranks, ranks <= 2 ? 2 : 1);
    for (const std::int64_t count : {1, 7, 16, 255, 4096, 70001}) {
      std::vector<std::vector<float>> x;
      std::vector<float> expected(static_cast<std::size_t>(count));
      for (int rank = 0; rank < ranks; ++rank) {
        x.push_back(numbers_of_rank(rank, count, static_cast<std::uint64_t>(count)));
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = rank == 0 ? x[0][i] : expected[i] + x.back()[i];
      }
      cpu.threads.run([&](int rank) {
        const auto r = static_cast<std::size_t>(rank);
        sum_over_ranks(cpu.devices[r], x[r].data(), count);
      });
      for (const std::vector<float>& of_rank : x) EXPECT_TRUE(same_bits(of_rank, expected)) << ranks << " ranks, " << count;
    }
  }
}

// A thousand sums behind each other, whose numbers move on between them as in a network.
TEST(SumOverRanks, ManyInARow) {
  constexpr int kRanks = 4, kSums = 1000;
  constexpr std::int64_t kCount = 100;
  CpuRanks cpu(kRanks, 1);
  std::vector<std::vector<float>> x(kRanks, std::vector<float>(kCount));
  cpu.threads.run([&](int rank) {
    std::vector<float>& own = x[static_cast<std::size_t>(rank)];
    for (int sum = 0; sum < kSums; ++sum) {
      for (std::int64_t i = 0; i < kCount; ++i)
        own[static_cast<std::size_t>(i)] = static_cast<float>((sum + i) % 97 + rank) / (sum % 2 == 0 ? 1 : 2);
      sum_over_ranks(cpu.devices[static_cast<std::size_t>(rank)], own.data(), kCount);
      for (std::int64_t i = 0; i < kCount; ++i) {
        const float expected = static_cast<float>(kRanks * ((sum + i) % 97) + 6) / (sum % 2 == 0 ? 1 : 2);
        if (own[static_cast<std::size_t>(i)] != expected) throw std::runtime_error("sum " + std::to_string(sum));
      }
    }
  });
}

TEST(SumOverRanks, ARankThatFailsEndsTheOthers) {
  CpuRanks cpu(3, 1);
  std::vector<float> x(30, 1.0f);
  const auto all_sum = [&](int failing) {
    cpu.threads.run([&](int rank) {
      try {
        if (rank == failing) throw std::runtime_error("rank " + std::to_string(rank) + " is out of memory");
        sum_over_ranks(cpu.devices[static_cast<std::size_t>(rank)], x.data() + 10 * rank, 10);
      } catch (...) {
        cpu.team.break_with(std::current_exception());
        throw;
      }
    });
  };
  for (int failing = 0; failing < 3; ++failing) {
    try {
      all_sum(failing);
      FAIL() << "no error";
    } catch (const std::exception& error) {
      EXPECT_EQ(error.what(), "rank " + std::to_string(failing) + " is out of memory");
    }
    cpu.team.mend();
  }
  std::ranges::fill(x, 1.0f);
  all_sum(-1);
  EXPECT_EQ(x, std::vector<float>(30, 3.0f));
}

TEST(GatherOverRanks, EveryRankHasAllInTheirOrder) {
  for (const int ranks : {1, 2, 5}) {
    CpuRanks cpu(ranks, 1);
    const auto count = static_cast<std::size_t>(ranks);
    std::vector<std::vector<double>> all(count, std::vector<double>(3 * count));
    for (int turn = 0; turn < 100; ++turn) {
      run_ranks(
          cpu.threads, [&](auto&& act) { act(cpu.team); },
          [&](int rank) {
            const std::vector<double> own{turn + 0.25, static_cast<double>(rank), -0.5};
            gather_over_ranks(cpu.devices[static_cast<std::size_t>(rank)], own, all[static_cast<std::size_t>(rank)]);
          });
      for (const std::vector<double>& seen : all) {
        for (int rank = 0; rank < ranks; ++rank) {
          const auto at = 3 * static_cast<std::size_t>(rank);
          EXPECT_EQ(std::vector<double>(seen.begin() + static_cast<std::ptrdiff_t>(at),
                                        seen.begin() + static_cast<std::ptrdiff_t>(at) + 3),
                    (std::vector<double>{turn + 0.25, static_cast<double>(rank), -0.5}));
        }
      }
    }
  }
}

TEST(GatherOverRanks, ARankThatFailsEndsTheOthers) {
  CpuRanks cpu(3, 1);
  std::vector<std::vector<double>> all(3, std::vector<double>(3));
  const auto gather = [&](int failing) {
    run_ranks(
        cpu.threads, [&](auto&& act) { act(cpu.team); },
        [&](int rank) {
          if (rank == failing) throw std::runtime_error("rank " + std::to_string(rank) + " is out of memory");
          const double own = rank;
          gather_over_ranks(cpu.devices[static_cast<std::size_t>(rank)], {&own, 1}, all[static_cast<std::size_t>(rank)]);
        });
  };
  for (int failing = 0; failing < 3; ++failing) EXPECT_THROW(gather(failing), std::runtime_error);
  gather(-1);
  EXPECT_EQ(all.back(), (std::vector<double>{0, 1, 2}));
}

TEST(SumOverRanks, AloneItIsNothing) {
  ThreadPool pool(1);
  std::vector<float> x{1, 2, 3};
  sum_over_ranks(Device{pool}, x.data(), 3);
  EXPECT_EQ(x, (std::vector<float>{1, 2, 3}));
}

}  // namespace
}  // namespace puna
