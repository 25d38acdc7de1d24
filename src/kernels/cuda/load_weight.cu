// SPDX-License-Identifier: Apache-2.0
// Big weights cross the bus through the context's pinned staging memory: a few threads, for one copies from the page cache slower
// than the bus, each with two buffers of its own, fill one while the other is under way. Quantized rows land in the staged memory
// beside it, from where a kernel lays them out.
#include "kernels/cuda/load_weight.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/as_size.h"
#include "base/error.h"
#include "kernels/cuda/relayout.h"
#include "kernels/cuda/weight_rows.h"

namespace puna::cuda {
namespace {

constexpr int kMostThreads = 4, kBuffersEach = 2;
constexpr std::size_t kPieceBytes = kStagingBytes / (kMostThreads * kBuffersEach);
constexpr std::size_t kAlignment = 16;

// Of a matrix without its row scales.
std::size_t matrix_bytes(const Tensor& tensor) {
  const std::int64_t rows = tensor.shape.rows(), width = tensor.shape.row_length();
  return as_size(is_quantized(tensor.format) ? tiles_of(rows) * tile_bytes(tensor.format, width)
                                             : rows * width * float_bytes(tensor.format));
}

struct Event {
  Event() { check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "weights"); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t event = nullptr;
};

// One load: its pieces are whole numbers of units, rows of blocks or single bytes, given to whichever thread is free.
class Transfer {
 public:
  Transfer(GpuContext& gpu, const Tensor& tensor, std::byte* to) : gpu_(gpu), tensor_(tensor), to_(to) {
    const bool blocks = is_quantized(tensor.format);
    unit_bytes_ = blocks ? as_size(tensor.row_bytes()) : 1;
    PUNA_CHECK(unit_bytes_ <= kPieceBytes, "weights", "a row of {} has {} bytes, at most {} are possible", tensor.name, unit_bytes_,
               kPieceBytes);
    units_ = blocks ? tensor.shape.rows() : static_cast<std::int64_t>(tensor.bytes.size());
    piece_units_ = static_cast<std::int64_t>(kPieceBytes / std::max<std::size_t>(unit_bytes_, 1));
  }

  void run() {
    const std::int64_t pieces = (units_ + piece_units_ - 1) / piece_units_;
    std::vector<std::thread> threads;
    const auto helpers = std::min<std::int64_t>({kMostThreads, pieces, std::max(1u, std::thread::hardware_concurrency())}) - 1;
    try {
      for (int i = 1; i <= helpers; ++i) threads.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {
      // the threads that did start share the work
    }
    work(0);
    for (std::thread& thread : threads) thread.join();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void work(int thread) {
    try {
      check(cudaSetDevice(gpu_.index), "weights");
      std::array<Event, kBuffersEach> sent;  // an event that was never recorded counts as reached
      for (int turn = 0;; turn = (turn + 1) % kBuffersEach) {
        const std::int64_t first = next_.fetch_add(piece_units_);
        if (first >= units_) return;
        check(cudaEventSynchronize(sent[as_size(turn)].event), "weights");
        send(first, std::min(piece_units_, units_ - first), as_size(thread * kBuffersEach + turn) * kPieceBytes,
             sent[as_size(turn)].event);
      }
    } catch (...) {
      next_ = units_;
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
    }
  }

  void send(std::int64_t first, std::int64_t count, std::size_t buffer, cudaEvent_t sent) {
    const std::size_t offset = as_size(first) * unit_bytes_, bytes = as_size(count) * unit_bytes_;
    std::memcpy(gpu_.staging + buffer, tensor_.bytes.data() + offset, bytes);
    const std::lock_guard lock(mutex_);  // keeps a copy and its kernel together
    if (!is_quantized(tensor_.format)) {
      check(cudaMemcpyAsync(to_ + offset, gpu_.staging + buffer, bytes, cudaMemcpyHostToDevice, gpu_.stream), "weights");
    } else {
      check(cudaMemcpyAsync(gpu_.staged + buffer, gpu_.staging + buffer, bytes, cudaMemcpyHostToDevice, gpu_.stream), "weights");
      relayout_rows(gpu_, tensor_.format, {gpu_.staged + buffer, first, count, tensor_.shape.row_length(), to_});
    }
    check(cudaEventRecord(sent, gpu_.stream), "weights");
  }

  GpuContext& gpu_;
  const Tensor& tensor_;
  std::byte* to_;
  std::size_t unit_bytes_;
  std::int64_t units_, piece_units_;
  std::atomic<std::int64_t> next_{0};  // unit
  std::mutex mutex_;                   // the stream and error_
  std::exception_ptr error_;
};

Tensor load_vector(GpuContext& gpu, const Tensor& on_host, std::byte* to) {
  std::vector<float> values(as_size(on_host.shape.count()));
  info(on_host.format).decode(on_host.bytes.data(), values.data(), on_host.shape.count());
  const std::size_t bytes = values.size() * sizeof(float);
  check(cudaMemcpyAsync(to, values.data(), bytes, cudaMemcpyHostToDevice, gpu.stream), "weights");
  check(cudaStreamSynchronize(gpu.stream), "weights");
  Tensor loaded = on_host;
  loaded.format = Format::kF32;
  loaded.bytes = {to, bytes};
  return loaded;
}

}  // namespace

std::size_t weight_bytes(const Tensor& on_host) {
  PUNA_CHECK(on_host.shape.rank() == 1 || on_host.shape.rank() == 2, "weights", "{} is {}", on_host.name, on_host.shape.text());
  if (on_host.shape.rank() == 1) return as_size(on_host.shape.count()) * sizeof(float);
  return (matrix_bytes(on_host) + kAlignment - 1) / kAlignment * kAlignment + on_host.row_scales.size();
}

Tensor load_weight(GpuContext* gpu, const Tensor& on_host, std::byte* to) {
  const std::size_t all = weight_bytes(on_host);
  PUNA_CHECK(reinterpret_cast<std::uintptr_t>(to) % kAlignment == 0, "weights", "{} would not be aligned", on_host.name);
  check(cudaSetDevice(gpu->index), "weights");
  if (on_host.shape.rank() == 1) return load_vector(*gpu, on_host, to);
  check(cudaStreamSynchronize(gpu->stream), "weights");  // nothing staged earlier is still to be read
  Transfer(*gpu, on_host, to).run();
  Tensor loaded = on_host;
  loaded.bytes = {to, matrix_bytes(on_host)};
  if (!on_host.row_scales.empty()) {
    std::byte* const scales = to + (all - on_host.row_scales.size());
    check(cudaMemcpyAsync(scales, on_host.row_scales.data(), on_host.row_scales.size(), cudaMemcpyHostToDevice, gpu->stream),
          "weights");
    loaded.row_scales = {scales, on_host.row_scales.size()};
  }
  check(cudaStreamSynchronize(gpu->stream), "weights");
  gpu->staging_used = 0;
  return loaded;
}

}  // namespace puna::cuda
