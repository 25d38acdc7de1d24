// SPDX-License-Identifier: Apache-2.0
// The decoders and encoders that the rows of tensor/format.cc point to. Everyone else goes through info(format).
// blocks [count / block_values], values [count]; blocks of 8- and 16-bit floats need no alignment, quantized blocks need two bytes.
#pragma once

#include <cstdint>

namespace puna {

void decode_f32(const void* blocks, float* values, std::int64_t count);
void decode_f16(const void* blocks, float* values, std::int64_t count);
void decode_bf16(const void* blocks, float* values, std::int64_t count);
void decode_f8_e4m3(const void* blocks, float* values, std::int64_t count);
void decode_q8_0(const void* blocks, float* values, std::int64_t count);
void decode_q4_0(const void* blocks, float* values, std::int64_t count);
void decode_q4_1(const void* blocks, float* values, std::int64_t count);
void decode_q5_0(const void* blocks, float* values, std::int64_t count);
void decode_q5_1(const void* blocks, float* values, std::int64_t count);
void decode_q4_k(const void* blocks, float* values, std::int64_t count);
void decode_q5_k(const void* blocks, float* values, std::int64_t count);
void decode_q6_k(const void* blocks, float* values, std::int64_t count);

void encode_f32(const float* values, void* blocks, std::int64_t count);
void encode_f16(const float* values, void* blocks, std::int64_t count);
void encode_bf16(const float* values, void* blocks, std::int64_t count);
void encode_f8_e4m3(const float* values, void* blocks, std::int64_t count);
void encode_q8_0(const float* values, void* blocks, std::int64_t count);
void encode_q4_0(const float* values, void* blocks, std::int64_t count);
void encode_q4_1(const float* values, void* blocks, std::int64_t count);
void encode_q5_0(const float* values, void* blocks, std::int64_t count);
void encode_q5_1(const float* values, void* blocks, std::int64_t count);
void encode_q4_k(const float* values, void* blocks, std::int64_t count);
void encode_q5_k(const float* values, void* blocks, std::int64_t count);
void encode_q6_k(const float* values, void* blocks, std::int64_t count);

}  // namespace puna
