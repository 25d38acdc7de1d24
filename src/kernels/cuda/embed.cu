// SPDX-License-Identifier: Apache-2.0
// Embeddings are rows of a weight, decoded (kernels/cuda/decode_matrix.h).
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/decode_matrix.h"

namespace puna::cuda {

void embed_forward(Device& device, const Tensor& embedding, std::span<const std::int32_t> tokens, float* x) {
  PUNA_CHECK(embedding.shape.rank() == 2, "embed", "the embedding {} is {}", embedding.name, embedding.shape.text());
  decode_listed_rows(context_of(device), embedding, tokens, x);
}

}  // namespace puna::cuda
