// SPDX-License-Identifier: Apache-2.0
// The names a tensor checkpoint may mention, and what each stands for. Everything else is refused.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "tensor/format.h"

namespace puna {

enum class PickleRole { kOrderedDict, kSize, kStorage, kBytes, kDtype, kTensor, kTypedTensor, kParameter };

struct PickleName {
  std::string_view module, name;
  PickleRole role;
  std::optional<Format> format = std::nullopt;  // of a storage or dtype, where it is in formats()
};

inline constexpr std::array kPickleNames = {
    PickleName{"collections", "OrderedDict", PickleRole::kOrderedDict},
    PickleName{"torch", "Size", PickleRole::kSize},
    PickleName{"torch._utils", "_rebuild_tensor_v2", PickleRole::kTensor},       // (storage, offset, size, stride, grad, hooks)
    PickleName{"torch._utils", "_rebuild_tensor_v3", PickleRole::kTypedTensor},  // the same, then dtype; the storage is bytes
    PickleName{"torch._utils", "_rebuild_parameter", PickleRole::kParameter},    // (tensor, grad, hooks)
    PickleName{"torch.storage", "UntypedStorage", PickleRole::kBytes},
    PickleName{"torch", "FloatStorage", PickleRole::kStorage, Format::kF32},
    PickleName{"torch", "HalfStorage", PickleRole::kStorage, Format::kF16},
    PickleName{"torch", "BFloat16Storage", PickleRole::kStorage, Format::kBF16},
    PickleName{"torch", "DoubleStorage", PickleRole::kStorage},
    PickleName{"torch", "LongStorage", PickleRole::kStorage},
    PickleName{"torch", "IntStorage", PickleRole::kStorage},
    PickleName{"torch", "ShortStorage", PickleRole::kStorage},
    PickleName{"torch", "CharStorage", PickleRole::kStorage},
    PickleName{"torch", "ByteStorage", PickleRole::kStorage},
    PickleName{"torch", "BoolStorage", PickleRole::kStorage},
    PickleName{"torch", "float8_e4m3fn", PickleRole::kDtype, Format::kF8E4M3},
    PickleName{"torch", "float8_e5m2", PickleRole::kDtype},
    PickleName{"torch", "float32", PickleRole::kDtype, Format::kF32},
    PickleName{"torch", "float16", PickleRole::kDtype, Format::kF16},
    PickleName{"torch", "bfloat16", PickleRole::kDtype, Format::kBF16},
};

}  // namespace puna
