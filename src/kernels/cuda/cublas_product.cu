// SPDX-License-Identifier: Apache-2.0
// Products by cuBLASLt. It counts in columns: a row-major C [M, N] is its C^T [N, M], so that our B is its first operand.
// Descriptors are plain structs, made when a shape is seen for the first time and kept with the chosen algorithm.
#include "kernels/cuda/cublas_product.h"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_map>

#include "base/error.h"

namespace puna::cuda {
namespace {

constexpr std::int64_t kProductWorkspace = std::int64_t{32} << 20;  // what cuBLASLt's documentation asks for on Hopper
constexpr std::size_t kMostChoices = 4096;
constexpr std::uintptr_t kMostAlignment = 256;  // more makes no difference to cuBLASLt

// All that a choice depends on.
using Key = std::array<std::int64_t, 13>;
struct KeyHash {
  std::size_t operator()(const Key& key) const {
    std::uint64_t hash = 0x9e3779b97f4a7c15u;
    for (const std::int64_t part : key) hash = (std::rotl(hash, 23) ^ static_cast<std::uint64_t>(part)) * 0xff51afd7ed558ccdu;
    return static_cast<std::size_t>(hash ^ hash >> 32);
  }
};

struct Choice {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t b, a, c;
  cublasLtMatmulAlgo_t algorithm;
  bool found;
};
using Choices = std::unordered_map<Key, Choice, KeyHash>;

Choices& choices_of(GpuContext& gpu) {
  if (gpu.product_cache == nullptr) gpu.product_cache = std::make_shared<Choices>();
  return *static_cast<Choices*>(gpu.product_cache.get());
}

std::uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer) | kMostAlignment;
  return static_cast<std::uint32_t>(address & -address);
}

Key key_of(const DenseProduct& p) {
  return {static_cast<std::int64_t>(p.format),
          p.rows,
          p.columns,
          p.depth,
          p.a.stride,
          p.b.stride,
          p.stride,
          static_cast<std::int64_t>(p.a.depth) * 2 + static_cast<std::int64_t>(p.b.depth),
          alignment_of(p.a.values),
          alignment_of(p.b.values),
          alignment_of(p.c),
          p.added == nullptr ? 0 : alignment_of(p.added),
          p.a.scales != nullptr};
}

cudaDataType_t type_of(Format format) {
  switch (format) {
    case Format::kF32:
      return CUDA_R_32F;
    case Format::kF16:
      return CUDA_R_16F;
    case Format::kBF16:
      return CUDA_R_16BF;
    case Format::kF8E4M3:
      return CUDA_R_8F_E4M3;
    default:
      fail(ErrorKind::kInternal, "product", "format {} has no dense form", static_cast<int>(format));
  }
}

template <typename Value>
void set(cublasLtMatmulDescOpaque_t& operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  check(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute");
}
template <typename Value>
void prefer(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
  check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
}

void set_scales(cublasLtMatmulDescOpaque_t& operation, const DenseProduct& p) {
  set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(p.b.scales));
  set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(p.a.scales));
}

void describe(const DenseProduct& p, Choice& choice) {
  const auto init = [](cublasStatus_t status) { check(status, "cublasLt descriptors"); };
  init(cublasLtMatmulDescInit(&choice.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  set(choice.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.b.depth == Depth::kWithinRows ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(choice.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.a.depth == Depth::kWithinRows ? CUBLAS_OP_N : CUBLAS_OP_T);
  if (p.a.scales != nullptr) {
    const cublasLtMatmulMatrixScale_t by_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    set(choice.operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, by_row);
    set(choice.operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, by_row);
    set(choice.operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{1});
    set_scales(choice.operation, p);
  }
  const auto size = [](std::int64_t count) { return static_cast<std::uint64_t>(count); };
  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& to, const DenseOperand& operand, std::int64_t across) {
    const bool within = operand.depth == Depth::kWithinRows;
    init(cublasLtMatrixLayoutInit(&to, type_of(p.format), size(within ? p.depth : across), size(within ? across : p.depth),
                                  operand.stride));
  };
  layout(choice.b, p.b, p.columns);
  layout(choice.a, p.a, p.rows);
  init(cublasLtMatrixLayoutInit(&choice.c, CUDA_R_32F, size(p.columns), size(p.rows), p.stride));
}

void choose(GpuContext& gpu, const DenseProduct& p, Choice& choice) {
  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
  prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kProductWorkspace));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b.values));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a.values));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.added != nullptr ? p.added : p.c));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.c));
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(gpu.cublas, &choice.operation, &choice.b, &choice.a, &choice.c,
                                                               &choice.c, &preference, 1, &best, &count);
  const bool none = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
  if (!none) check(status, "cublasLtMatmulAlgoGetHeuristic");
  choice.found = !none && count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  choice.algorithm = best.algo;
}

Choice& choice_for(GpuContext& gpu, const DenseProduct& p) {
  Choices& choices = choices_of(gpu);
  const Key key = key_of(p);
  const auto known = choices.find(key);
  if (known != choices.end()) return known->second;
  if (choices.size() >= kMostChoices) choices.clear();
  Choice choice{};
  describe(p, choice);
  choose(gpu, p, choice);
  return choices.emplace(key, choice).first->second;
}

}  // namespace

bool can_multiply(GpuContext& gpu, const DenseProduct& product) { return choice_for(gpu, product).found; }

bool try_multiply(GpuContext& gpu, const DenseProduct& p) {
  Choice& choice = choice_for(gpu, p);
  if (!choice.found) return false;
  if (p.a.scales != nullptr) set_scales(choice.operation, p);
  const float one = 1, beta = p.added != nullptr ? 1 : 0;
  const void* const added = p.added != nullptr ? p.added : p.c;
  const cublasStatus_t status =
      cublasLtMatmul(gpu.cublas, &choice.operation, &one, p.b.values, &choice.b, p.a.values, &choice.a, &beta, added, &choice.c,
                     p.c, &choice.c, &choice.algorithm, gpu.workspace, static_cast<std::size_t>(kProductWorkspace), gpu.stream);
  choice.found = status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE;
  if (choice.found) check(status, "cublasLtMatmul");
  return choice.found;
}

void multiply(GpuContext& gpu, const DenseProduct& p) {
  if (try_multiply(gpu, p)) return;
  fail(ErrorKind::kUnsupported, "product", "cuBLASLt has no kernel for [{}, {}] times [{}, {}] in format {}", p.rows, p.depth,
       p.depth, p.columns, static_cast<int>(p.format));
}

Room room_beside_products(const GpuContext& gpu) {
  return {static_cast<std::byte*>(gpu.workspace) + kProductWorkspace,
          static_cast<std::int64_t>(gpu.workspace_bytes) - kProductWorkspace};
}

}  // namespace puna::cuda
