// SPDX-License-Identifier: Apache-2.0
// The bound of the queue: so many answers, and texts that are read, may have been asked for and not have ended. What counts is what
// a model will do, so a request takes a place for each answer, not one by itself: 64 prompts with 16 answers each are 1024.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "server/api_error.h"

namespace puna {

class Places {
 public:
  explicit Places(std::int64_t most) : most_(most) {}
  Places(const Places&) = delete;
  Places& operator=(const Places&) = delete;

  std::int64_t most() const { return most_; }
  std::int64_t taken() const { return taken_; }
  std::int64_t requests() const { return requests_; }  // that hold any
  // 429 for who lacks `wanted` of them, with when to come again.
  ApiError overloaded(std::int64_t wanted) const;

  // What one request holds, and gives back at its end. Used by one thread at a time.
  class Held {
   public:
    Held() = default;
    Held(Held&& other) noexcept : places_(std::exchange(other.places_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    Held& operator=(Held&& other) noexcept;
    ~Held() { give_back(count_); }

    std::int64_t count() const { return count_; }
    // Takes what `count` lacks, before any prompt is made tokens. Throws ApiError, and takes nothing: 400 for `param` where a
    // request of this size never has room, 429 where it has none now.
    void need(std::int64_t count, const std::string& param);
    // The same for what can be done in fewer places at once: takes those that are free.
    void take_free(std::int64_t count);
    // Not more than it holds; who gives back the last one gets none again.
    void give_back(std::int64_t count);

   private:
    friend class Places;
    explicit Held(Places* places) : places_(places), count_(1) {}
    Places* places_ = nullptr;
    std::int64_t count_ = 0;
  };
  // A request's first; it holds none where none is free.
  Held take();

 private:
  // Takes `wanted`, or fewer where not so many are free, but not fewer than `least`. How many it took.
  std::int64_t take(std::int64_t least, std::int64_t wanted);

  std::int64_t most_;
  std::atomic<std::int64_t> taken_{0}, requests_{0};
};

}  // namespace puna
