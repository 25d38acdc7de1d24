// SPDX-License-Identifier: Apache-2.0
// The jobs of one request, which end together when its client goes, and pause while it does not read. From any thread.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "server/served_model.h"

namespace puna {

class JobGroup {
 public:
  explicit JobGroup(std::shared_ptr<ServedModel> model) : model_(std::move(model)) {}

  ServedModel& model() const { return *model_; }
  // One that comes after the end ends at once, and one that comes in a pause pauses.
  void hold(ServedModel::Job job) {
    const std::scoped_lock lock(mutex_);
    jobs_.push_back(job);
    if (cancelled_) model_->cancel(job);
    if (paused_) model_->set_paused(job, true);
  }
  void set_paused(bool paused) {
    const std::scoped_lock lock(mutex_);
    paused_ = paused;
    for (const ServedModel::Job job : jobs_) model_->set_paused(job, paused);
  }
  void cancel() {
    const std::scoped_lock lock(mutex_);
    cancelled_ = true;
    for (const ServedModel::Job job : jobs_) model_->cancel(job);
  }

 private:
  std::shared_ptr<ServedModel> model_;
  std::mutex mutex_;
  std::vector<ServedModel::Job> jobs_;
  bool cancelled_ = false, paused_ = false;
};

}  // namespace puna
