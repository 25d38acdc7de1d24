// SPDX-License-Identifier: Apache-2.0
// Products of quantized weights with 8-bit activations, on the instruction sets that have a fast dot of bytes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_integer.cc"
#include "kernels/cpu/targets.h"
// targets.h comes first
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/matmul_targets.h"
#include "kernels/cpu/transpose_inl.h"
#include "tensor/blocks.h"

#undef PUNA_INTEGER_DOTS
#undef PUNA_INTEGER_TARGET
#if HWY_TARGET == HWY_AVX3_DL
#define PUNA_INTEGER_DOTS 1
// Highway 1.0.3 detects avx512vnni for this target but does not compile for it.
#define PUNA_INTEGER_TARGET HWY_TARGET_STR ",avx512vnni"
#include "kernels/cpu/products_avx512_inl.h"
#elif HWY_TARGET == HWY_AVX2
#define PUNA_INTEGER_DOTS 1
#define PUNA_INTEGER_TARGET HWY_TARGET_STR
#include "kernels/cpu/products_avx2_inl.h"
#else
#define PUNA_INTEGER_DOTS 0
#define PUNA_INTEGER_TARGET HWY_TARGET_STR
#endif

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {

bool has_integer_dots() { return PUNA_INTEGER_DOTS != 0; }

void matmul_integer([[maybe_unused]] const Activations& x, [[maybe_unused]] const RowRange& range) {
#if PUNA_INTEGER_DOTS
  multiply_integers(x, range);
#endif
}

}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES

#if HWY_ONCE
namespace puna::cpu {

HWY_EXPORT(matmul_integer);
HWY_EXPORT(has_integer_dots);

void matmul_integer(const Activations& x, const RowRange& range) { HWY_DYNAMIC_DISPATCH(matmul_integer)(x, range); }
bool has_integer_dots() { return HWY_DYNAMIC_DISPATCH(has_integer_dots)(); }

}  // namespace puna::cpu
#endif
