// SPDX-License-Identifier: Apache-2.0
// A pool whose work is split the same way every time: item i of n belongs to a thread that depends only on i, n and the number
// of threads, so sums do not depend on timing and a rerun is bit-equal. The caller is thread 0.
// Between two jobs the workers spin for a short while (a decode step is a hundred jobs of some 100 µs) and then sleep; where there
// are more threads than processors they sleep at once.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace puna {

class ThreadPool {
 public:
  // threads = 0: as many as the process may use. Throws kNoRoom when the system does not start that many.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls job(thread) once on every thread and returns when all have finished. The first exception is rethrown here.
  // One job at a time: a second run() or split() on the same pool, from inside a job or from another thread, throws kInternal.
  template <typename Job>
  void run(Job&& job) {
    auto call = [](void* context, int thread) { (*static_cast<std::remove_reference_t<Job>*>(context))(thread); };
    run_erased(call, const_cast<void*>(static_cast<const void*>(&job)));
  }

  // Splits [0, count) into one contiguous range per thread, each a multiple of `grain` long but the last,
  // and calls job(begin, end, thread) for every range that is not empty.
  template <typename Job>
  void split(std::int64_t count, std::int64_t grain, Job&& job) {
    run([&](int thread) {
      const auto [begin, end] = range_of(count, grain, thread, size_);
      if (begin < end) job(begin, end, thread);
    });
  }

  // The part of [0, count) that belongs to `thread` of `threads`, in multiples of `grain`.
  static std::pair<std::int64_t, std::int64_t> range_of(std::int64_t count, std::int64_t grain, int thread, int threads);

 private:
  using Call = void (*)(void* context, int thread);
  void run_erased(Call call, void* context);

  struct State;
  int size_;
  std::unique_ptr<State> state_;
};

// The number of processors this process may run on (its affinity mask and control-group quota respected).
int available_processors();

}  // namespace puna
