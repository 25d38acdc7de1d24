// SPDX-License-Identifier: Apache-2.0
// What a device gives beside its operations: the CPU's memory or a GPU's. Finds the library beside the program or where it is
// installed, and loads it once. What it lacks (a driver, cuBLAS, a GPU) is told to whoever asks for a GPU and to nobody else.
#include "kernels/gpu.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>

#include "base/environment.h"
#include "base/error.h"
#include "base/nearest.h"
#include "kernels/kernel_table.h"

namespace puna {
namespace {

constexpr const char* kLibraryName = "libpuna_cuda.so";

struct Loaded {
  const GpuLibrary* library = nullptr;
  std::string why_none;
};

std::filesystem::path folder_of_program() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

// PUNA_CUDA_LIBRARY, or beside the program, or where it is installed.
std::filesystem::path library_path() {
  if (const std::string named = environment("PUNA_CUDA_LIBRARY"); !named.empty()) return named;
  const std::filesystem::path folder = folder_of_program();
  for (const char* const place : {"", "../lib/puna", "../lib64/puna", "../lib/x86_64-linux-gnu/puna"}) {
    if (const auto path = folder / place / kLibraryName; std::filesystem::exists(path)) return path;
  }
  return {};
}

Loaded load() {
  const std::filesystem::path path = library_path();
  if (path.empty()) return {nullptr, fmt::format("this build of Puna has no {}: build it where nvcc is", kLibraryName)};
  void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return {nullptr, fmt::format("{} cannot be loaded: {}", kLibraryName, ::dlerror())};
  const auto entry = reinterpret_cast<const GpuLibrary* (*)()>(::dlsym(handle, "puna_gpu_library"));
  if (entry == nullptr) return {nullptr, fmt::format("{} is not Puna's: it lacks puna_gpu_library", path.string())};
  const GpuLibrary* const library = entry();
  if (library->version != kGpuLibraryVersion) {
    return {nullptr,
            fmt::format("{} belongs to another build of Puna (its interface is {}, this program's {}): build both together",
                        path.string(), library->version, kGpuLibraryVersion)};
  }
  return {library, ""};
}

const Loaded& loaded() {
  static const Loaded library = load();
  return library;
}

constexpr int kMostDevices = 255;  // that a name can count

std::optional<int> whole_number(std::string_view text) {
  int number = 0;
  const auto [last, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || last != text.data() + text.size() || number < 0 || number > kMostDevices) return std::nullopt;
  return number;
}

std::vector<int> all_gpus() {
  const GpuSearch search = find_gpus();
  if (search.gpus.empty()) fail(ErrorKind::kUnsupported, "cuda", "no GPU can be used: {}", search.why_none);
  std::vector<int> numbers;
  for (const GpuInfo& gpu : search.gpus) numbers.push_back(gpu.index);
  return numbers;
}

// "0,2" and "0-3", also mixed; `device` is the whole, for messages.
std::vector<int> listed_gpus(std::string_view device, std::string_view list, const std::string& where) {
  std::vector<int> numbers;
  for (bool more = true; more;) {
    const std::size_t comma = list.find(',');
    const std::string_view item = list.substr(0, comma);
    const std::size_t dash = item.find('-');
    const auto first = whole_number(item.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : whole_number(item.substr(dash + 1));
    if (!first || !last || *last < *first) {
      fail(ErrorKind::kUsage, where, "'{}': expected numbers of GPUs behind cuda:, as in cuda:1, cuda:0,2 or cuda:0-3, or cuda:all",
           device);
    }
    for (int number = *first; number <= *last; ++number) {
      if (std::ranges::find(numbers, number) != numbers.end())
        fail(ErrorKind::kUsage, where, "'{}' names GPU {} twice: each holds one share of the model", device, number);
      numbers.push_back(number);
    }
    more = comma != std::string_view::npos;
    if (more) list.remove_prefix(comma + 1);
  }
  return numbers;
}

}  // namespace

const KernelTable& Device::kernels() const { return gpu == nullptr ? cpu_kernels() : *gpu->library().kernels; }

Arena Device::arena(std::size_t bytes, const std::string& purpose) const {
  return gpu == nullptr ? Arena(bytes, purpose) : Arena(bytes, purpose, gpu->memory());
}

void Device::copy_in(void* to, const void* from, std::size_t bytes) const {
  if (gpu != nullptr) return gpu->library().copy_in(gpu->context(), to, from, bytes);
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Device::copy_out(void* to, const void* from, std::size_t bytes) const {
  if (gpu != nullptr) return gpu->library().copy_out(gpu->context(), to, from, bytes);
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Device::copy_within(void* to, const void* from, std::size_t bytes) const {
  if (gpu != nullptr) return gpu->library().copy_within(gpu->context(), to, from, bytes);
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Device::zero(void* memory, std::size_t bytes) const {
  if (gpu != nullptr) return gpu->library().zero(gpu->context(), memory, bytes);
  const std::int64_t piece = std::int64_t{1} << 16, pieces = (static_cast<std::int64_t>(bytes) + piece - 1) / piece;
  pool.split(pieces, 1, [&](std::int64_t begin, std::int64_t end, int) {
    const auto first = static_cast<std::size_t>(begin * piece), last = std::min(bytes, static_cast<std::size_t>(end * piece));
    std::memset(static_cast<std::byte*>(memory) + first, 0, last - first);
  });
}

DeviceChoice device_choice(std::string_view device, const std::string& where) {
  constexpr std::string_view kGpus = "cuda:", kRanks = "cpu:";
  if (device == "cpu") return {};
  if (device == "cuda") return {.gpus = {0}};
  if (device == "cuda:all") return {.gpus = all_gpus()};
  if (device.starts_with(kGpus)) return {.gpus = listed_gpus(device, device.substr(kGpus.size()), where)};
  if (device.starts_with(kRanks)) {
    if (const auto ranks = whole_number(device.substr(kRanks.size())); ranks && *ranks >= 1) return {.cpu_ranks = *ranks};
    fail(ErrorKind::kUsage, where, "'{}': expected a number of ranks behind cpu:, from 1 to {}", device, kMostDevices);
  }
  const std::vector<std::string> names{"cpu", "cuda"};
  fail(ErrorKind::kUsage, where, "'{}' is no device, expected cpu, cuda or cuda:N{}", device, did_you_mean(device, names));
}

GpuSearch find_gpus() {
  GpuSearch search;
  const auto& [library, why_none] = loaded();
  search.why_none = why_none;
  if (library == nullptr) return search;
  try {
    for (int i = 0; i < library->count(); ++i) search.gpus.push_back(library->describe(i));
    if (search.gpus.empty()) search.why_none = "this machine has no NVIDIA GPU";
  } catch (const std::exception& error) {
    search.why_none = error.what();
  }
  return search;
}

Gpu::Gpu(int index) {
  const GpuSearch search = find_gpus();
  if (search.gpus.empty()) fail(ErrorKind::kUnsupported, "cuda", "no GPU can be used: {}", search.why_none);
  if (index < 0 || index >= static_cast<int>(search.gpus.size()))
    fail(ErrorKind::kUsage, "cuda", "there is no GPU {}: this machine has {}, counted from 0", index, search.gpus.size());
  library_ = loaded().library;
  info_ = search.gpus[static_cast<std::size_t>(index)];
  context_ = library_->open(index);
  memory_ = std::make_unique<MemorySource>(
      MemorySource{.name = info_.name,
                   .allocate = [this](std::size_t bytes) { return library_->allocate(context_, bytes); },
                   .release = [this](void* memory) { library_->release(context_, memory); }});
}

Gpu::~Gpu() { library_->close(context_); }

std::shared_ptr<float> Gpu::pinned(std::size_t count) const {
  void* const memory = library_->allocate_pinned(count * sizeof(float));
  if (memory == nullptr) fail(ErrorKind::kNoRoom, "memory", "{} bytes of pinned memory are not to be had", count * sizeof(float));
  return {static_cast<float*>(memory), library_->release_pinned};
}

void Gpu::replay_or_record(std::uint64_t key, const std::function<void()>& compute) {
  if (library_->replay(context_, key)) return;
  if (seen_.insert(key).second) return compute();  // also loads what is loaded at first use
  library_->begin_record(context_);
  try {
    compute();
  } catch (...) {
    library_->drop_record(context_);
    throw;
  }
  library_->end_record(context_, key);
  library_->replay(context_, key);
}

void Gpu::forget_records() {
  library_->forget_records(context_);
  seen_.clear();
}

std::int64_t Gpu::free_memory() const { return library_->describe(info_.index).free; }

}  // namespace puna
