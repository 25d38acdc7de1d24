// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/waiting_room.h"

namespace puna {
namespace {

// Processors granted by the control group's quota (cgroup v2), or a large number where there is none.
int quota_processors() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0;
  double period = 0;
  if (!(file >> quota >> period) || period <= 0) return 1 << 20;  // "max 100000": no quota
  return static_cast<int>(std::clamp(quota / period, 1.0, 1048576.0));
}

}  // namespace

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // More than 1024 processors do not fit the set; the library then counts them.
  const int count =
      sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, std::min(count, quota_processors()));
}

std::chrono::microseconds spin_time_for(int threads) {
  return std::chrono::microseconds(threads <= available_processors() ? 100 : 0);
}

struct ThreadPool::State {
  // On their own cache lines: workers watch the first while others count down the second.
  alignas(64) std::atomic<std::uint64_t> generation{0};  // counts jobs; workers wait for it to move
  alignas(64) std::atomic<int> unfinished{0};            // workers still in the job; the caller waits for 0
  alignas(64) std::atomic_flag busy;                     // a job is running
  Call call = nullptr;
  void* context = nullptr;
  std::atomic<bool> stop{false};
  std::chrono::microseconds spin_time;
  WaitingRoom for_job, for_workers;
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  void do_share(int thread) {
    try {
      call(context, thread);
    } catch (...) {
      std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }

  void work(int thread) {
    // Signals belong to the caller's thread, whose system calls they interrupt. Not the faults of this thread itself: one that is
    // blocked ends the program without asking the handler (mapping_faults.h).
    sigset_t sent;
    sigfillset(&sent);
    for (const int fault : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP}) sigdelset(&sent, fault);
    ::pthread_sigmask(SIG_BLOCK, &sent, nullptr);
    for (std::uint64_t seen = 0;; ++seen) {
      for_job.wait(spin_time, [&] { return generation.load() != seen; });
      if (stop.load()) return;
      do_share(thread);
      if (unfinished.fetch_sub(1) == 1) for_workers.notify();
    }
  }

  void publish() {
    generation.fetch_add(1);
    for_job.notify();
  }

  ~State() {
    stop.store(true);
    publish();
    for (auto& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int threads) : size_(threads > 0 ? threads : available_processors()), state_(std::make_unique<State>()) {
  State* state = state_.get();
  state->spin_time = spin_time_for(size_);
  try {
    for (int thread = 1; thread < size_; ++thread) {
      state->workers.emplace_back([state, thread] { state->work(thread); });
    }
  } catch (const std::system_error& error) {
    fail(ErrorKind::kNoRoom, "threads", "the system started {} of {} threads ({}): use fewer", state->workers.size() + 1, size_,
         error.code().message());
  }
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::run_erased(Call call, void* context) {
  State& state = *state_;
  PUNA_CHECK(!state.busy.test_and_set(std::memory_order_acquire), "thread pool", "a job was started while another one runs");
  state.call = call;
  state.context = context;
  state.unfinished.store(size_ - 1);
  if (size_ > 1) state.publish();
  state.do_share(0);
  if (size_ > 1) state.for_workers.wait(state.spin_time, [&] { return state.unfinished.load() == 0; });
  const std::exception_ptr error = std::exchange(state.error, nullptr);
  state.busy.clear(std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

std::pair<std::int64_t, std::int64_t> ThreadPool::range_of(std::int64_t count, std::int64_t grain, int thread, int threads) {
  PUNA_CHECK(count >= 0 && grain > 0, "thread pool", "cannot split {} items in grains of {}", count, grain);
  const std::int64_t grains = (count + grain - 1) / grain;
  const std::int64_t begin = grains * thread / threads * grain;
  const std::int64_t end = grains * (thread + 1) / threads * grain;
  return {std::min(begin, count), std::min(end, count)};
}

}  // namespace puna
